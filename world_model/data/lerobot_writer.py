"""Episodes as a LeRobot dataset of version 3.0, laid out as published: parquet, mp4 and JSON.

An episode of T steps becomes T + 1 rows. The last one has no action of its own: the one before it is repeated there,
its reward is 0, and ``next.done`` is true. Reading it back leaves that row's action out again.
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from dataclasses import replace as changed
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.lerobot_layout import DATA_PATH, SIGNALS, VIDEO_PATH
from procosm.world_model.data.task import Task, View
from procosm.world_model.data.video_stream import encode_part
from procosm.world_model.errors import DatasetError
from procosm.world_model.folders import check_out, replace

VERSION = "v3.0"
ROWS = 50_000
"""Of a data file at the most, but for a longer episode."""
PER_CHUNK = 1000
QUALITY = 10
"""Of the video (constant rate factor): pixels come back within about 2 of 255."""
INDEX = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


@dataclass(frozen=True)
class Coded:
    """An episode whose frames are video already.

    Attributes:
        episode: without pixels; its frames have their number and no size. films: mp4 of each view. colours: (5, 3) of
            each view, see ``_moments``.
    """

    episode: Episode
    films: dict[str, bytes]
    colours: dict[str, np.ndarray]


def code(episode: Episode, task: Task, quality: int = QUALITY) -> Coded:
    """An episode of the task as video of this quality: H.264's constant rate factor, 1 (best) to 51."""
    views = task.split(episode.frames)
    return Coded(
        changed(episode, frames=np.empty((len(episode.frames), 0, 0, 3), np.uint8)),
        {view: encode_part(frames, task.dt_s, quality) for view, frames in views.items()},
        {view: _moments(frames.reshape(-1, 3) / 255) for view, frames in views.items()},
    )


def write_lerobot(path: Path, task: Task, episodes: Iterable[Coded]) -> Path:
    """Write a dataset into the folder ``path``, whole or not at all; returns it.

    Args:
        episodes: of the task, with the signals that it logs; one at a time is held in memory.

    Raises:
        DatasetError: there is something in the folder already, no episode, or the disk does not take it.
    """
    check_out(path, lambda name: False)
    if path.exists() and any(path.iterdir()):
        raise DatasetError(f"{path} is not empty: give a folder of its own to export to")
    replace(path, lambda staging: _Writer(staging, task).write(episodes))
    return path


class _Writer:
    """Writes recordings one after the other: a video each, rows in files of at most ``ROWS``."""

    def __init__(self, root: Path, task: Task) -> None:
        import pyarrow as pa

        self._pa, self._root, self._task = pa, root, task
        self._columns = {name: _column(name, each.per) for name, each in task.signals.items() if name != "termination"}
        self._texts: dict[str, int] = {}
        self._rows: list[Any] = []
        self._held, self._file, self._index = 0, 0, 0
        self._episodes: list[dict[str, Any]] = []
        self._sums: dict[str, list[np.ndarray]] = {}

    def write(self, episodes: Iterable[Coded]) -> None:
        for number, coded in enumerate(episodes):
            self._add(number, coded)
        if not self._episodes:
            raise DatasetError("there is no episode to export")
        self._flush()
        self._write_meta()

    def _add(self, number: int, coded: Coded) -> None:
        episode = coded.episode
        count = len(episode.frames)
        if self._held and self._held + count > ROWS:
            self._flush()
        texts = self._texts
        text = texts.setdefault(episode.text or self._task.id, len(texts))
        columns = self._values(episode) | {
            "timestamp": (np.arange(count) * self._task.dt_s).astype(np.float32),
            "frame_index": np.arange(count),
            "episode_index": np.full(count, number),
            "index": np.arange(self._index, self._index + count),
            "task_index": np.full(count, text),
        }
        self._rows.append(self._pa.table({key: self._array(values) for key, values in columns.items()}))
        row: dict[str, Any] = {
            "episode_index": number,
            "tasks": [episode.text or self._task.id],
            "length": count,
            "data/chunk_index": self._file // PER_CHUNK,
            "data/file_index": self._file % PER_CHUNK,
            "dataset_from_index": self._index,
            "dataset_to_index": self._index + count,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        moments = {key: _moments(values) for key, values in columns.items()}
        for view, film in coded.films.items():
            key = f"observation.images.{view}"
            row |= self._video(key, number, film, count)
            moments[key] = coded.colours[view]
        for key, each in moments.items():
            row |= {f"stats/{key}/{name}": value for name, value in _total(key, [each]).items()}
            self._sums.setdefault(key, []).append(each)
        self._episodes.append(row)
        self._held, self._index = self._held + count, self._index + count

    def _values(self, episode: Episode) -> dict[str, np.ndarray]:
        """Actions and signals of an episode, one row for each frame."""
        steps = len(episode.actions)
        found = {"action": np.concatenate([episode.actions, episode.actions[-1:]])}
        for name, values in episode.signals.items():
            last = values[-1:] * 0 if name == "reward" else values[-1:]
            found[self._columns[name]] = np.concatenate([values, last]) if len(values) == steps else values
        if "termination" in self._task.signals:
            done = np.zeros(steps + 1, bool)
            done[-2:] = episode.terminated, True
            found["next.done"] = done
        return found

    def _array(self, values: np.ndarray) -> Any:
        if values.ndim == 1:
            return self._pa.array(values)
        flat = self._pa.array(values.reshape(len(values), -1).ravel())
        return self._pa.FixedSizeListArray.from_arrays(flat, values.reshape(len(values), -1).shape[1])

    def _video(self, key: str, number: int, film: bytes, count: int) -> dict[str, Any]:
        chunk, file = number // PER_CHUNK, number % PER_CHUNK
        path = self._root / VIDEO_PATH.format(video_key=key, chunk_index=chunk, file_index=file)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(film)
        place = f"videos/{key}"
        return {
            f"{place}/chunk_index": chunk,
            f"{place}/file_index": file,
            f"{place}/from_timestamp": 0.0,
            f"{place}/to_timestamp": count * self._task.dt_s,
        }

    def _flush(self) -> None:
        """Write the rows that are held as one file."""
        import pyarrow.parquet as pq

        path = self._root / DATA_PATH.format(chunk_index=self._file // PER_CHUNK, file_index=self._file % PER_CHUNK)
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(self._pa.concat_tables(self._rows), path)
        self._rows, self._held, self._file = [], 0, self._file + 1

    def _write_meta(self) -> None:
        import pyarrow.parquet as pq

        meta = self._root / "meta"
        (meta / "episodes" / "chunk-000").mkdir(parents=True)
        pq.write_table(self._pa.Table.from_pylist(self._episodes), meta / "episodes" / "chunk-000" / "file-000.parquet")
        pq.write_table(self._tasks(), meta / "tasks.parquet")
        stats = {key: _total(key, parts) for key, parts in self._sums.items()}
        for name, values in (("info", self._describe()), ("stats", stats)):
            (meta / f"{name}.json").write_text(json.dumps(values, indent=4, allow_nan=False) + "\n", encoding="utf-8")
        for path in self._root.rglob("*"):
            if path.is_file():
                with path.open("rb+") as written:
                    os.fsync(written.fileno())

    def _tasks(self) -> Any:
        """The texts as pandas writes a frame that they index, which is how ``lerobot`` reads them."""
        columns = [
            {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": stored, "metadata": None}
            for name, kind, stored in (("task_index", "int64", "int64"), ("task", "unicode", "object"))
        ]
        pandas = {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.2.0"}
        table = self._pa.table({"task_index": list(self._texts.values()), "task": list(self._texts)})
        return table.replace_schema_metadata({"pandas": json.dumps(pandas)})

    def _describe(self) -> dict[str, Any]:
        """``meta/info.json``."""
        task, fps = self._task, _rate(self._task.dt_s)
        features = {f"observation.images.{view.name}": _film(view, fps) for view in task.views}
        features["action"] = {"dtype": "float32", "shape": [len(task.action_low)], "names": None, "fps": fps}
        for name, column in self._columns.items():
            size = int(np.prod(task.signals[name].shape, dtype=int))
            features[column] = {"dtype": "float32", "shape": [size], "names": None, "fps": fps}
        if "termination" in task.signals:
            features["next.done"] = {"dtype": "bool", "shape": [1], "names": None, "fps": fps}
        features |= {key: {"dtype": kind, "shape": [1], "names": None, "fps": fps} for key, kind in INDEX.items()}
        return {
            "codebase_version": VERSION,
            "robot_type": task.id,
            "total_episodes": len(self._episodes),
            "total_frames": self._index,
            "total_tasks": len(self._texts),
            "chunks_size": PER_CHUNK,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": fps,
            "splits": {"train": f"0:{len(self._episodes)}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH,
            "features": features,
        }


def _film(view: View, fps: float) -> dict[str, Any]:
    """What ``meta/info.json`` says of a camera."""
    even = view.height % 2 == 0 and view.width % 2 == 0
    info = {
        "video.fps": fps,
        "video.height": view.height,
        "video.width": view.width,
        "video.channels": 3,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p" if even else "yuv444p",
        "video.is_depth_map": False,
        "has_audio": False,
    }
    shape, names = [view.height, view.width, 3], ["height", "width", "channels"]
    return {"dtype": "video", "shape": shape, "names": names, "info": info}


def _rate(dt_s: float) -> int | float:
    """Frames per second, as a whole number where it is one."""
    rate = float(Fraction(1 / dt_s).limit_denominator(1001))
    return int(rate) if rate.is_integer() else rate


def _column(signal: str, per: str) -> str:
    """What a signal is called as a column."""
    known = {name: key for key, name in SIGNALS.items()}
    return known.get(signal, f"observation.{signal}" if per == "frame" else f"next.{signal}")


def _moments(values: np.ndarray) -> np.ndarray:
    """(5, k): least, most, sum, sum of squares, count of each number in a row."""
    rows = values.reshape(len(values), -1).astype(np.float64)
    return np.stack([rows.min(0), rows.max(0), rows.sum(0), np.square(rows).sum(0), np.full(rows.shape[1], len(rows))])


def _total(key: str, parts: list[np.ndarray]) -> dict[str, list]:
    """The statistics that metadata hold of a column; those of pictures by channel, (3, 1, 1) of 0 to 1."""
    table = np.stack(parts)
    count = table[:, 4].sum(0)
    mean = table[:, 2].sum(0) / count
    deviation = np.sqrt(np.maximum(table[:, 3].sum(0) / count - mean**2, 0))
    found = {"min": table[:, 0].min(0), "max": table[:, 1].max(0), "mean": mean, "std": deviation}
    shape = (3, 1, 1) if key.startswith("observation.images.") else (-1,)
    return {name: value.reshape(shape).tolist() for name, value in found.items()} | {"count": [int(count[0])]}
