"""NumPy archives as logs: ``NAME.npz``, whose arrays are looked at by their headers before memory is asked for.

``frames`` (n, H, W, 3) uint8, or ``frames.CAMERA`` for each camera; ``actions`` (n - 1, a), or (n, a) with one for
the last frame, which is left out. Optional: ``timestamps`` (n,), ``rewards`` (as actions), ``terminated``, ``text``,
``fps``, and any other array of numbers with n rows, which becomes a signal.
"""

import io
import math
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from procosm.world_model.data import rows
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.logs import (
    Log,
    LogsConfig,
    Scan,
    agreed_dt,
    choose_views,
    files,
    logged_task,
    scaled,
    scaled_views,
)
from procosm.world_model.data.task import REWARD, TERMINATION, Signal
from procosm.world_model.data.video import MOST_BYTES
from procosm.world_model.errors import DatasetError

OWN = {"actions", "timestamps", "rewards", "terminated", "text", "fps"}
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")


class Archive:
    """One ``.npz``: what its members' headers say, and their arrays.

    Raises:
        DatasetError: it is damaged, an array needs pickle, or a member is larger than it or anything here may be.
    """

    def __init__(self, source: Path | bytes, where: str) -> None:
        self._where, self.headers = where, dict[str, tuple[tuple[int, ...], np.dtype]]()
        try:
            self._zip = zipfile.ZipFile(io.BytesIO(source) if isinstance(source, bytes) else source)
            total = 0
            for member in self._zip.infolist():
                if not member.filename.endswith(".npy"):
                    raise DatasetError(f"{where} holds {member.filename!r}, which is no array")
                with self._zip.open(member) as stream:
                    shape, dtype, offset = _header(stream)
                if dtype.kind not in "biufU" or min(shape, default=0) < 0:
                    raise DatasetError(
                        f"{where}: {member.filename} is of {dtype}, which is no array of numbers or text"
                    )
                size = math.prod(shape) * dtype.itemsize
                total += size
                if size + offset != member.file_size or total > MOST_BYTES:
                    raise DatasetError(
                        f"{where}: {member.filename} says that it is {shape} {dtype}, and unpacks to "
                        f"{member.file_size:,} bytes; at most {MOST_BYTES:,} are read"
                    )
                self.headers[member.filename.removesuffix(".npy")] = shape, dtype
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, RuntimeError, NotImplementedError) as error:
            raise DatasetError(f"{where} is damaged ({error})") from error

    def __enter__(self) -> "Archive":
        return self

    def __exit__(self, *_: object) -> None:
        self._zip.close()

    def read(self, name: str) -> np.ndarray:
        """An array of the archive."""
        try:
            with self._zip.open(f"{name}.npy") as stream:
                array: np.ndarray = np.lib.format.read_array(stream, allow_pickle=False)
                stream.read(1)  # past its end, where the checksum is compared
                return array
        except KeyError as error:
            raise DatasetError(f"{self._where} has no array {name}; it has {', '.join(self.headers)}") from error
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, zipfile.error) as error:
            raise DatasetError(f"{self._where}: {name} is damaged ({error})") from error


def _header(stream: object) -> tuple[tuple[int, ...], np.dtype, int]:
    """Shape and dtype that a ``.npy`` says, and where its data begin."""
    version = np.lib.format.read_magic(stream)  # type: ignore[arg-type]
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"it is of version {version} of NumPy's format")
    shape, _, dtype = readers[version](stream)  # type: ignore[arg-type]
    return shape, dtype, stream.tell()  # type: ignore[attr-defined]


class ArchiveLogs:
    """A folder of ``.npz``, one for each recording."""

    def __init__(self, config: LogsConfig) -> None:
        self._paths = {path.stem: path for path in files(config.data, ".npz")}
        self.names = list(self._paths)
        first, fps = self._first(), None
        with Archive(first, first.name) as archive:
            headers = dict(archive.headers)
            if "fps" in headers:
                fps = float(archive.read("fps"))
        cameras = [key for key in headers if key == "frames" or key.startswith("frames.")]
        self._cameras = choose_views(cameras, config)
        sizes = {key: _size(headers[key][0], key, first.name) for key in self._cameras}
        views = scaled_views(sizes, config)
        self._views = dict(zip(self._cameras, views, strict=True))
        self._signals = _signals(headers, cameras, sizes)
        scan = Scan(views, agreed_dt(fps, config), self._actions(), self._signals)
        self.task = logged_task(config.data.resolve().stem, scan)

    def read(self, name: str) -> Log:
        """One recording."""
        where = self._paths[name].name
        with Archive(self._paths[name], where) as archive:
            frames = [scaled(_frames(archive, key, where), self._views[key]) for key in self._cameras]
            count = len(frames[0])
            actions = rows.numbers(archive.read("actions"), len(self.task.action_low), None, "actions", where)
            if len(actions) not in (count, count - 1) or any(len(each) != count for each in frames):
                raise DatasetError(f"{where}: {len(actions)} actions for {[len(each) for each in frames]} frames")
            signals = {}
            for key, signal in self._signals.items():
                if key == "termination":
                    continue
                source, width = ("rewards", None) if key == "reward" else (key, signal.shape[0])
                values = rows.numbers(archive.read(source), width, None, source, where)
                if len(values) != (len(actions) if key == "reward" else count):
                    raise DatasetError(f"{where}: {source} has {len(values)} rows, and there are {count} frames")
                signals[key] = values[: count - 1] if signal.per == "step" else values
            times_s = np.arange(count) * self.task.dt_s
            if "timestamps" in archive.headers:
                times_s = rows.seconds(archive.read("timestamps"), self.task.dt_s, where)
            episode = Episode(
                frames=np.concatenate(frames, axis=2),
                actions=actions[: count - 1],
                terminated=bool(archive.read("terminated")) if "terminated" in archive.headers else False,
                kind="train",
                signals=signals,
                text=str(archive.read("text")) if "text" in archive.headers else "",
            )
        return Log(name, episode, times_s)

    def _first(self) -> Path:
        """The first archive that is none too damaged to say what the others hold."""
        fault: DatasetError | None = None
        for path in self._paths.values():
            try:
                with Archive(path, path.name) as archive:
                    if "actions" in archive.headers and any(key.startswith("frames") for key in archive.headers):
                        return path
                    fault = fault or DatasetError(f"{path.name} has no arrays frames and actions")
            except DatasetError as error:
                fault = fault or error
        raise fault or DatasetError("there is no .npz file")

    def _actions(self) -> Iterator[np.ndarray]:
        for path in self._paths.values():
            try:
                with Archive(path, path.name) as archive:
                    actions = archive.read("actions").astype(np.float64)
            except (DatasetError, ValueError):
                continue
            if actions.ndim == 2:
                yield actions


def _size(shape: tuple[int, ...], key: str, where: str) -> tuple[int, int]:
    if len(shape) != 4 or shape[3] != 3 or shape[0] < 2:
        raise DatasetError(f"{where}: {key} has the shape {shape}, and should have (n, H, W, 3) with n at least 2")
    return shape[1], shape[2]


def _frames(archive: Archive, key: str, where: str) -> np.ndarray:
    shape, dtype = archive.headers.get(key, ((), np.dtype(float)))
    _size(shape, key, where)
    if dtype != np.uint8:
        raise DatasetError(f"{where}: {key} is {dtype}, and should be uint8, 0 to 255")
    return archive.read(key)


def _signals(headers: Mapping[str, tuple], cameras: list[str], sizes: Mapping[str, tuple]) -> dict[str, Signal]:
    """What else the arrays log: those with a vector for each frame."""
    count = headers[cameras[0]][0][0]
    found = {
        key: Signal((shape[1],), "frame")
        for key, (shape, dtype) in headers.items()
        if key not in OWN | set(cameras) and dtype.kind in "biuf" and NAME.fullmatch(key)
        if len(shape) == 2 and shape[0] == count and shape[1] > 0
    }
    optional = {"rewards": ("reward", REWARD), "terminated": ("termination", TERMINATION)}
    return found | {name: signal for key, (name, signal) in optional.items() if key in headers}
