"""Folders of video files with tables of actions: ``NAME.mp4``, or ``NAME.CAMERA.mp4`` for each camera.

The table is ``NAME.csv`` or ``NAME.parquet``, or one ``actions.csv`` or ``actions.parquet`` with a column ``film``.
It has a row for each frame, or for each but the last. Columns ``action``, or ``action.0``, ``action.1`` and so on, are
the action; other numbered columns are a signal each; ``timestamp``, ``reward`` and ``text`` are what they say.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np

from procosm.world_model.data import rows
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.lerobot_layout import parquet
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
from procosm.world_model.data.task import MAIN, REWARD, Signal
from procosm.world_model.data.video import decode
from procosm.world_model.errors import DatasetError

COLUMN = re.compile(r"([A-Za-z][A-Za-z0-9_]*?)(?:[._\[]?(\d+)\]?)?")
SHARED = ("actions.csv", "actions.parquet")
PLAIN = {"timestamp", "reward", "text", "film", "frame_index"}
Table = dict[str, list]


class FilmLogs:
    """A folder of video files; a recording is called as they are."""

    def __init__(self, config: LogsConfig) -> None:
        self._root = config.data if config.data.is_dir() else config.data.parent
        found: dict[str, dict[str, Path]] = {}
        for path in files(config.data, ".mp4"):
            name, _, camera = path.stem.partition(".")
            found.setdefault(name, {})[camera or MAIN] = path
        self._films = found
        self.names = list(found)
        cameras = next(iter(found.values()))
        self._cameras = choose_views(list(cameras), config)
        sizes, fps = {}, None
        for camera in self._cameras:
            opened = next((film[camera] for film in found.values() if _opens(film.get(camera))), None)
            if opened is None:
                raise DatasetError(f"no film of camera {camera} in {config.data} can be opened: all are damaged")
            sizes[camera], fps = _look(opened)
        self._views = dict(zip(self._cameras, scaled_views(sizes, config), strict=True))
        self._groups = self._columns()
        signals = {
            n: Signal((len(keys),), "frame") for n, keys in self._groups.items() if n not in ("action", "reward")
        }
        signals |= {"reward": REWARD} if "reward" in self._groups else {}
        scan = Scan(list(self._views.values()), agreed_dt(fps, config), self._actions(), signals)
        self.task = logged_task(config.data.resolve().stem, scan)

    def read(self, name: str) -> Log:
        """One recording: its table, then its frames."""
        table, task = self._table(name), self.task
        length = len(next(iter(table.values()), []))
        values = {}
        for group, keys in self._groups.items():
            if missing := [key for key in keys if key not in table]:
                raise DatasetError(f"{name}: its table has no column {', '.join(missing)}")
            columns = [rows.numbers(_floats(table[key], key, name), None, length, key, name) for key in keys]
            values[group] = np.stack(columns, 1)
        frames = []
        for camera in self._cameras:
            if camera not in self._films[name]:
                raise DatasetError(f"{name}: there is no film of camera {camera}")
            path = self._films[name][camera]
            shown, found_s = decode(path, path.name, self._views[camera].height)
            frames.append(scaled(shown, self._views[camera]))
            if abs(float(np.median(np.diff(found_s))) / task.dt_s - 1) > rows.RATE_ERROR if len(found_s) > 1 else False:
                raise DatasetError(f"{path.name} does not have {1 / task.dt_s:g} frames per second as the others do")
        count = len(frames[0])
        if length not in (count, count - 1) or any(len(each) != count for each in frames) or count < 2:
            raise DatasetError(
                f"{name}: its table has {length} rows, and its films {[len(each) for each in frames]} frames"
            )
        if length < count and len(self._groups.keys() - {"action", "reward"}):
            raise DatasetError(f"{name}: its table has no row for the last frame, whose signals are needed")
        times_s = found_s - found_s[0]
        if "timestamp" in table:
            times_s = rows.seconds(_floats(table["timestamp"], "timestamp", name), task.dt_s, name)
            if length < count:
                times_s = np.append(times_s, times_s[-1] + task.dt_s)
        actions = values.pop("action")[: count - 1]
        signals = {key: value[: count - 1, 0] if key == "reward" else value for key, value in values.items()}
        text = str(table["text"][0]) if table.get("text") else ""
        return Log(
            name, Episode(np.concatenate(frames, 2), actions, False, "train", signals=signals, text=text), times_s
        )

    def _columns(self) -> dict[str, list[str]]:
        """Columns of numbers that belong together, by what they are; from the first table that can be read."""
        fault: DatasetError | None = None
        for name in self.names:
            try:
                table = self._table(name)
            except DatasetError as error:
                fault = fault or error
                continue
            groups: dict[str, list[str]] = {}
            for key in table:
                match = COLUMN.fullmatch(key)
                if match and (match[2] is not None or key in ("action", "reward")) and key not in PLAIN - {"reward"}:
                    groups.setdefault(match[1].rstrip("_"), []).append(key)
            if "action" in groups:
                return groups
            fault = fault or DatasetError(f"{name}: its table has no column action; it has {', '.join(table)}")
        raise fault or DatasetError(f"{self._root} has no tables of actions")

    def _actions(self) -> Iterator[np.ndarray]:
        for name in self.names:
            try:
                table = self._table(name)
                yield np.array([_floats(table[key], key, name) for key in self._groups["action"]]).T
            except (DatasetError, KeyError, ValueError):
                continue

    def _table(self, name: str) -> Table:
        """The columns of a recording's table."""
        paths = [self._root / f"{name}.csv", self._root / f"{name}.parquet", *(self._root / each for each in SHARED)]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise DatasetError(f"{name}: there is no table {paths[0].name} of its actions")
        table = parquet(path).to_pydict() if path.suffix == ".parquet" else _read_csv(path)
        if path.name not in SHARED:
            return table
        chosen = [row for row, film in enumerate(table.get("film", [])) if film in (name, f"{name}.mp4")]
        if not chosen:
            raise DatasetError(f"{name}: {path.name} has no row whose film is {name}")
        return {key: [values[row] for row in chosen] for key, values in table.items()}


def _read_csv(path: Path) -> Table:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.reader(file, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path.name} is damaged ({error})") from error
    if not lines or len(set(lines[0])) < len(lines[0]):
        raise DatasetError(f"{path.name} has no header, or one that names a column twice")
    for number, line in enumerate(lines[1:], 1):
        if len(line) != len(lines[0]):
            raise DatasetError(f"{path.name}: row {number - 1} has {len(line)} cells, and the header {len(lines[0])}")
    return {key: [line[at] for line in lines[1:]] for at, key in enumerate(lines[0])}


def _floats(cells: list, key: str, name: str) -> np.ndarray:
    """A column as numbers, float64."""
    found = np.empty(len(cells))
    for row, cell in enumerate(cells):
        try:
            found[row] = float(cell)
        except (TypeError, ValueError) as error:
            raise DatasetError(f"{name}: {key} of row {row} is {cell!r:.40}, no number") from error
    return found


def _opens(path: Path | None) -> bool:
    try:
        return path is not None and _look(path) is not None
    except DatasetError:
        return False


def _look(path: Path) -> tuple[tuple[int, int], float | None]:
    """(height, width) of a video file, and its frames per second."""
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            rate = stream.average_rate
            return (stream.height, stream.width), float(rate) if rate else None
    except (av.FFmpegError, IndexError, OSError) as error:
        raise DatasetError(f"{path.name} is no video, or a damaged one ({error})") from error
