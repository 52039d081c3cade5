"""Anybody's robot logs as episodes: one interface over the formats that people have.

=========  ====================================================================================================
format     what lies in the folder
=========  ====================================================================================================
procosm    a dataset of ``procosm collect`` or ``procosm ingest``
shards     shards of ``procosm curate``
lerobot    a LeRobot dataset, v3.0 or v2.1: ``meta/info.json``, parquet, mp4
minari     a Minari dataset: ``data/main_data.hdf5`` and ``data/metadata.json``, with images among its observations
robomimic  ``*.hdf5`` with ``data/demo_N/actions`` and ``data/demo_N/obs/*_image``
films      ``NAME.mp4``, or ``NAME.CAMERA.mp4`` for each camera, with a table of actions ``NAME.csv`` or ``.parquet``
numpy      ``NAME.npz`` with ``frames`` and ``actions``
=========  ====================================================================================================
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal, Protocol

import numpy as np
from annotated_types import Gt, Interval

from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.task import MAIN, Signal, Task, View
from procosm.world_model.errors import DatasetError, ProcosmError
from procosm.world_model.settings import Settings

DAMAGE = (
    KeyError,
    IndexError,
    ValueError,
    TypeError,
    AttributeError,
    OSError,
    RuntimeError,
    MemoryError,
    OverflowError,
)
"""What reading a damaged file raises where nothing of ours looked for that damage."""
Format = Literal["auto", "procosm", "shards", "lerobot", "minari", "robomimic", "films", "numpy"]


@dataclass(frozen=True)
class LogsConfig(Settings):
    """Where logs lie, and how they are to be read."""

    data: Path
    """Folder (or single file) of the logs."""
    format: Format = "auto"
    """What the logs are; auto looks at the folder."""
    views: tuple[str, ...] = ()
    """Cameras to read, in this order; by default all of them."""
    height: Annotated[int, Interval(ge=8, le=1024)] | None = None
    """Pixels that every camera's frames are brought to, in proportion; by default the smallest camera's."""
    fps: Annotated[float, Gt(0)] | None = None
    """Frames per second, for formats that do not say; where one does, it must agree."""


@dataclass(frozen=True)
class Log:
    """One recording.

    Attributes:
        name: what its source calls it. episode: what was recorded.
        times_s: (T+1,) float64, when each frame was taken; those of the clock where the source has none of its own.
    """

    name: str
    episode: Episode
    times_s: np.ndarray


class Logs(Protocol):
    """The recordings of one source, read one at a time."""

    task: Task
    names: Sequence[str]

    def read(self, name: str) -> Log:
        """One recording.

        Raises:
            DatasetError: it cannot be read; the error names the file and the row.
        """


def open_logs(config: LogsConfig) -> Logs:
    """The logs in a folder.

    Raises:
        DatasetError: the folder holds none of these formats, or nothing of it can be read.
    """
    if not config.data.exists():
        raise DatasetError(f"{config.data} does not exist")
    if config.format == "auto" and (config.data / "data" / "task.json").exists():
        raise DatasetError(f"{config.data} is the folder of a run: give {config.data / 'data'}")
    kind = _detect(config.data) if config.format == "auto" else config.format
    try:
        logs: Logs = _opener(kind)(config)
    except DAMAGE as error:
        raise DatasetError(f"{config.data} is damaged ({type(error).__name__}: {error})") from error
    if not logs.names:
        raise DatasetError(f"{config.data} holds no recording")
    return logs


def read_log(logs: Logs, name: str) -> Log:
    """One recording, checked against its task.

    Raises:
        DatasetError: it cannot be read, or is not what the task says.
    """
    try:
        log = logs.read(name)
    except DAMAGE as error:
        raise DatasetError(f"{name} is damaged ({type(error).__name__}: {error})") from error
    if len(log.times_s) != len(log.episode.frames):
        raise DatasetError(f"{name}: {len(log.times_s)} timestamps for {len(log.episode.frames)} frames")
    check_episode(log.episode, logs.task, name)
    return log


def check_episode(episode: Episode, task: Task, name: str) -> None:
    """Compare an episode, whose frames may still lie on disk, with its task.

    Raises:
        DatasetError: it is not what the task says; errors call it ``name``.
    """
    shape = (len(episode.actions) + 1, *task.frame_shape)
    if episode.frames.shape != shape or not len(episode.actions):
        raise DatasetError(
            f"{name}: {len(episode.actions)} steps with frames {episode.frames.shape}, where {shape} belong to them"
        )
    low, high = task.bounds
    outside = ((episode.actions < low) | (episode.actions > high)).any(1)
    if outside.any():
        row = int(outside.argmax())
        raise DatasetError(
            f"{name}: action of row {row} is {episode.actions[row].tolist()}, outside {low.tolist()} to {high.tolist()}"
        )


def _opener(kind: str) -> Callable[[LogsConfig], Logs]:
    modules = {
        "procosm": "stored_logs:DatasetLogs",
        "shards": "shards:ShardLogs",
        "lerobot": "lerobot:LeRobotLogs",
        "minari": "minari:MinariLogs",
        "robomimic": "hdf5:RobomimicLogs",
        "films": "films:FilmLogs",
        "numpy": "archives:ArchiveLogs",
    }
    module, _, name = modules[kind].partition(":")
    opener: Callable[[LogsConfig], Logs] = getattr(import_module(f"procosm.world_model.data.{module}"), name)
    return opener


def _detect(path: Path) -> str:
    """Which format a folder or file holds."""
    marks: dict[str, Callable[[Path], object]] = {
        "procosm": lambda p: (p / "task.json").exists() and (p / "main_data.hdf5").exists(),
        "shards": lambda p: (p / "index.json").exists(),
        "lerobot": lambda p: (p / "meta" / "info.json").exists(),
        "minari": lambda p: any((p / f).exists() for f in ("data/metadata.json", "metadata.json")),
        "robomimic": lambda p: files(p, ".hdf5", ".h5"),
        "films": lambda p: files(p, ".mp4"),
        "numpy": lambda p: files(p, ".npz"),
    }
    found = next((kind for kind, mark in marks.items() if mark(path)), None)
    if found is None:
        raise DatasetError(f"{path} holds no logs that can be read: give a folder of {', '.join(marks)}")
    return found


def files(path: Path, *endings: str) -> list[Path]:
    """The files of a folder with these endings, or the path itself where it is such a file."""
    if path.is_file():
        return [path] if path.suffix in endings else []
    return sorted(each for each in path.iterdir() if each.suffix in endings and each.is_file())


@dataclass(frozen=True)
class Scan:
    """What a source says of its recordings before a frame of them is read.

    Attributes:
        actions: of each recording, (T, a), to take the bounds from. signals: what else is logged. bounds: where the
            source knows them, low and high.
    """

    views: Sequence[View]
    dt_s: float
    actions: Iterable[np.ndarray]
    signals: Mapping[str, Signal]
    bounds: tuple[np.ndarray, np.ndarray] | None = None


def logged_task(name: str, scan: Scan) -> Task:
    """The task that logs without a simulator are of.

    Bounds of an action that the source does not know are the least and greatest that was logged; an action that never
    changed gets one unit to each side.

    Raises:
        DatasetError: the recordings have no action, or what the source says makes no task.
    """
    longest, low, high = 0, None, None
    for actions in scan.actions:
        usable = actions[np.isfinite(actions).all(1)]
        longest = max(longest, len(actions))
        if len(usable):
            least, most = usable.min(0), usable.max(0)
            low = least if low is None else np.minimum(low, least)
            high = most if high is None else np.maximum(high, most)
    if scan.bounds is not None:
        low, high = scan.bounds
    if low is None or high is None:
        raise DatasetError(f"{name}: no recording of it holds an action")
    fixed = high <= low
    low, high = np.where(fixed, low - 1, low).astype(np.float32), np.where(fixed, high + 1, high).astype(np.float32)
    try:
        return Task(
            id=re.sub(r"[\x00-\x1f]", "", name)[:200] or "logs",
            views=tuple(scan.views),
            action_low=tuple(map(float, low)),
            action_high=tuple(map(float, high)),
            action_repeat=1,
            dt_s=scan.dt_s,
            max_episode_steps=max(1, longest),
            signals=dict(scan.signals),
        )
    except ProcosmError as error:
        raise DatasetError(f"{name}: {error}") from error


def view_name(name: str) -> str:
    """What a camera is called here: the last part of its key, in letters that a task takes."""
    if name == "frames":
        return MAIN
    for prefix in ("observation.images.", "observation.", "frames."):
        name = name.removeprefix(prefix)
    short = name.removesuffix("_image")
    cleaned = re.sub(r"[^A-Za-z0-9_.-]", "_", short)[:40]
    return cleaned if re.match(r"[A-Za-z]", cleaned) else f"camera_{cleaned}"[:40]


def choose_views(found: Sequence[str], config: LogsConfig) -> list[str]:
    """The keys of the cameras to read, in order.

    Raises:
        DatasetError: there is none, two would be called alike, or one that was asked for is not there.
    """
    by_name = {view_name(key): key for key in found}
    if not found:
        raise DatasetError(f"{config.data} has no images: a world model needs to see")
    if len(by_name) < len(found):
        raise DatasetError(f"{config.data}: two of the cameras {', '.join(found)} would have the same name")
    if missing := [name for name in config.views if name not in by_name]:
        raise DatasetError(f"{config.data} has no camera {', '.join(missing)}; it has {', '.join(by_name)}")
    return [by_name[name] for name in config.views or by_name]


def scaled_views(sizes: Mapping[str, tuple[int, int]], config: LogsConfig) -> list[View]:
    """What each camera of these (height, width) shows once all are brought to one height.

    Raises:
        DatasetError: a size that no task has.
    """
    height = config.height or min(size[0] for size in sizes.values())
    if not 8 <= height <= 1024 or not all(8 <= round(w * height / h) <= 1024 for h, w in sizes.values()):
        shown = ", ".join(f"{name} {h} x {w}" for name, (h, w) in sizes.items())
        raise DatasetError(f"{config.data} shows {shown} pixels; each side has 8 to 1024 here: give --height")
    return [View(view_name(name), height, max(1, round(w * height / h))) for name, (h, w) in sizes.items()]


def scaled(frames: np.ndarray, view: View) -> np.ndarray:
    """(n, H, W, 3) uint8 brought to a view's size by areas."""
    if frames.shape[1:3] == (view.height, view.width):
        return frames
    import cv2

    return np.stack([cv2.resize(f, (view.width, view.height), interpolation=cv2.INTER_AREA) for f in frames])


def agreed_dt(told: float | None, config: LogsConfig) -> float:
    """Seconds between frames, from what the source and the user say of frames per second.

    Raises:
        DatasetError: neither does, or they contradict each other.
    """
    if told is None and config.fps is None:
        raise DatasetError(f"{config.data} does not say how many frames it has per second: give --fps")
    if told is not None and not 0 < told <= 1e6:
        raise DatasetError(f"{config.data} says that it has {told} frames per second")
    if told is not None and config.fps is not None and abs(told - config.fps) > 0.01 * told:
        raise DatasetError(f"{config.data} has {told:g} frames per second, not --fps {config.fps:g}")
    return 1 / (told if told is not None else config.fps or 1.0)


def held_out(names: Sequence[str], share: float) -> set[str]:
    """Recordings to judge by: a share of them, evenly among the rest, so that they cover the whole time of the logs."""
    count = min(len(names) - 1, max(1, round(share * len(names)))) if share and len(names) > 1 else 0
    return {names[round((k + 0.5) * len(names) / count - 0.5)] for k in range(count)}
