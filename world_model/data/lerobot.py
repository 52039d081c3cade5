"""LeRobot datasets, version 3.0 and 2.1, read from their published layout: parquet, mp4 and JSON.

The layout gives N rows for N frames, each with the action taken there. The outcome of the last action was not
recorded, so a recording becomes an episode of N - 1 steps. ``observation.state`` is a robot's proprioception and
becomes the signal ``proprio``; ``observation.environment_state`` becomes ``state``, ``next.reward`` ``reward``.
"""

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from procosm.world_model.data import rows
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.lerobot_layout import SIGNALS, columns_of, json_lines, parquet
from procosm.world_model.data.logs import (
    Log,
    LogsConfig,
    Scan,
    agreed_dt,
    choose_views,
    logged_task,
    scaled,
    scaled_views,
)
from procosm.world_model.data.pictures import read_picture
from procosm.world_model.data.task import REWARD, TERMINATION, Signal
from procosm.world_model.data.video import decode
from procosm.world_model.errors import DatasetError

VERSIONS = ("v3.0", "v2.1", "v2.0")


class LeRobotLogs:
    """The recordings of a LeRobot dataset; their names are ``episode_000000`` and so on."""

    def __init__(self, config: LogsConfig) -> None:
        self._root = config.data
        self._info = _read_info(self._root)
        self._new = self._info["codebase_version"] == "v3.0"
        features: dict[str, dict] = self._info["features"]
        cameras = [key for key, each in features.items() if each.get("dtype") in ("video", "image")]
        cameras = [key for key in cameras if not (features[key].get("info") or {}).get("video.is_depth_map")]
        self._cameras = choose_views(cameras, config)
        views = scaled_views({key: self._size(key) for key in self._cameras}, config)
        self._views = dict(zip(self._cameras, views, strict=True))
        self._columns, self._signals = self._logged()
        self._texts = self._read_texts()
        self._episodes = {f"episode_{row['episode_index']:06d}": row for row in self._read_episodes()}
        self.names = list(self._episodes)
        scan = Scan(views, agreed_dt(float(self._info["fps"]), config), self._actions(), self._signals)
        self.task = logged_task(self._info.get("repo_id") or self._root.resolve().name, scan)

    def read(self, name: str) -> Log:
        """One recording: its rows checked one by one, then its frames."""
        row = self._episodes[name]
        where = f"{name} of {self._root}"
        table = self._table(row, where)
        count, dt_s = int(row["length"]), self.task.dt_s
        if len(table["action"]) != count:
            raise DatasetError(f"{where}: it has {len(table['action'])} rows, and its metadata say {count}")
        if count < 2:
            raise DatasetError(f"{where}: one frame shows no step")
        rows.consecutive(np.array(table["frame_index"]), where)
        times_s = rows.seconds(np.array(table["timestamp"], np.float64), dt_s, where)
        actions = rows.numbers(table["action"], len(self.task.action_low), count, "action", where)[:-1]
        signals = {}
        for key, signal in self._columns.items():
            values = rows.numbers(table[key], self._signals[signal].shape[0] if self._signals[signal].shape else None,
                                  count, key, where)  # fmt: skip
            signals[signal] = values[:-1] if self._signals[signal].per == "step" else values
        done = table.get("next.done", [False])
        episode = Episode(
            frames=np.concatenate([self._frames(key, row, table, times_s, where) for key in self._cameras], axis=2),
            actions=actions,
            terminated=bool(done[-2]) if len(done) > 1 else False,
            kind="train",
            signals=signals,
            text=self._texts.get(int(table["task_index"][0]), "") if "task_index" in table else "",
        )
        return Log(name, episode, times_s)

    def _size(self, key: str) -> tuple[int, int]:
        """(height, width) of a camera; the layout allows channels first or last."""
        feature = self._info["features"][key]
        shape, names = feature.get("shape", ()), feature.get("names") or ()
        if len(shape) != 3 or not all(isinstance(side, int) and side > 0 for side in shape):
            raise DatasetError(f"{self._root}: {key} has the shape {shape}, which is no picture's")
        first = list(names)[:1] in (["channels"], ["channel"]) or shape[-1] not in (1, 3, 4)
        return (shape[1], shape[2]) if first else (shape[0], shape[1])

    def _logged(self) -> tuple[dict[str, str], dict[str, Signal]]:
        """Columns that become signals, by column, and what each signal is."""
        columns, signals = {}, {}
        for key, feature in self._info["features"].items():
            shape = tuple(feature.get("shape") or ())
            place, _, rest = key.partition(".")
            name = SIGNALS.get(key, re.sub(r"[^A-Za-z0-9_.-]", "_", rest))
            numeric = str(feature.get("dtype", "")).startswith(("float", "int", "bool")) and len(shape) <= 1
            if not numeric or key == "next.done" or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_.-]{0,39}", name):
                continue
            if key == "next.reward":
                columns[key], signals[name] = name, REWARD
            elif place in ("observation", "next"):
                size = int(shape[0]) if shape else 1
                columns[key], signals[name] = name, Signal((size,), "frame" if place == "observation" else "step")
        if "next.done" in self._info["features"]:
            signals["termination"] = TERMINATION
        return columns, signals

    def _read_texts(self) -> dict[int, str]:
        """Each language task by its index."""
        if not self._new:
            path = self._root / "meta" / "tasks.jsonl"
            found = json_lines(path) if path.exists() else []
            return {int(row.get("task_index", -1)): str(row.get("task", "")) for row in found}
        path = self._root / "meta" / "tasks.parquet"
        if not path.exists():
            return {}
        table = parquet(path).to_pydict()
        texts: list = next((table[key] for key in ("task", "__index_level_0__", "tasks") if key in table), [])
        return {int(index): str(text) for index, text in zip(table.get("task_index", []), texts, strict=False)}

    def _read_episodes(self) -> Iterator[dict[str, Any]]:
        """What the metadata say of each recording, in order."""
        if not self._new:
            yield from json_lines(self._root / "meta" / "episodes.jsonl", needs=("episode_index", "length"))
            return
        paths = sorted((self._root / "meta" / "episodes").glob("*/*.parquet"))
        if not paths:
            raise DatasetError(f"{self._root}: meta/episodes holds no parquet file")
        videos = [key for key in self._cameras if self._info["features"][key]["dtype"] == "video"]
        parts = ("chunk_index", "file_index", "from_timestamp")
        needed = ["episode_index", "length", "data/chunk_index", "data/file_index"]
        needed += [f"videos/{key}/{part}" for key in videos for part in parts]
        for path in paths:
            yield from parquet(path, needed).to_pylist()

    def _actions(self) -> Iterator[np.ndarray]:
        """The actions of each recording, for their bounds; what is wrong with one is said when it is read."""
        width = _width(self._info["features"].get("action"), self._root)
        for name, row in self._episodes.items():
            try:
                table = self._table(row, name, only=["action"])
                yield np.asarray(np.stack(table["action"]), np.float64).reshape(-1, width)[:-1]
            except (DatasetError, ValueError, TypeError):
                continue

    def _table(self, row: Mapping[str, Any], where: str, only: list[str] | None = None) -> dict[str, list]:
        """The rows of one recording, by column."""
        features = self._info["features"]
        pictures = [key for key in self._cameras if features[key]["dtype"] == "image"]
        needed = only or ["action", "timestamp", "frame_index", *self._columns, *pictures]
        optional = [] if only else [key for key in ("task_index", "next.done") if key in features]
        path = self._file("data_path", row, "data", where)
        return columns_of(path, int(row["episode_index"]), needed, optional, where)

    def _frames(self, key: str, row: Mapping[str, Any], table: dict, times_s: np.ndarray, where: str) -> np.ndarray:
        """(N, h, w, 3) of one camera."""
        view, count = self._views[key], len(times_s)
        if self._info["features"][key]["dtype"] == "image":
            pictures = [read_picture(cell, f"{key} of row {at} of {where}") for at, cell in enumerate(table[key])]
            return scaled(np.stack(pictures), view)
        path = self._file("video_path", row, f"videos/{key}", where, key)
        begin_s = float(row[f"videos/{key}/from_timestamp"]) if self._new else 0.0
        frames, found_s = decode(path, f"{key} of {where}", view.height, begin_s, count, self.task.dt_s / 2)
        late = np.abs(found_s - begin_s - times_s)
        if late.max() > self.task.dt_s / 2:
            at = int((late > self.task.dt_s / 2).argmax())
            raise DatasetError(
                f"{where}: row {at} was taken at {times_s[at]:.3f} s, and {key} shows its frame at "
                f"{found_s[at] - begin_s:.3f} s"
            )
        return scaled(frames, view)

    def _file(self, template: str, row: Mapping[str, Any], place: str, where: str, key: str = "") -> Path:
        """The file that the dataset's own template names for a recording, inside the dataset."""
        index = int(row["episode_index"])
        values = {"episode_index": index, "episode_chunk": index // int(self._info.get("chunks_size") or 1000)}
        values |= {part: int(row.get(f"{place}/{part}") or 0) for part in ("chunk_index", "file_index")}
        try:
            path = PurePosixPath(str(self._info[template]).format(**values, video_key=key))
        except (KeyError, IndexError, ValueError, AttributeError) as error:
            raise DatasetError(f"{self._root}/meta/info.json: {template} cannot be filled in ({error})") from error
        if path.is_absolute() or ".." in path.parts:
            raise DatasetError(f"{where}: {template} leads to {path}, outside the dataset: it is refused")
        if not (self._root / path).is_file():
            raise DatasetError(f"{where}: {path} is missing")
        return self._root / path


def _width(feature: Any, root: Path) -> int:
    shape = (feature or {}).get("shape") if isinstance(feature, dict) else None
    if not shape or len(shape) != 1 or not isinstance(shape[0], int) or shape[0] < 1:
        raise DatasetError(f"{root}/meta/info.json has no feature 'action' that is a row of numbers")
    return int(shape[0])


def _read_info(root: Path) -> dict[str, Any]:
    """``meta/info.json``, with what is used of it checked."""
    path = root / "meta" / "info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path} is missing or damaged ({error})") from error
    if not isinstance(info, dict) or info.get("codebase_version") not in VERSIONS:
        version = info.get("codebase_version") if isinstance(info, dict) else None
        raise DatasetError(f"{path} is of version {version}; {', '.join(VERSIONS)} can be read")
    features, fps = info.get("features"), info.get("fps")
    if not isinstance(features, dict) or not all(isinstance(each, dict) for each in features.values()):
        raise DatasetError(f"{path}: features is no mapping of names to descriptions")
    if not isinstance(fps, int | float) or isinstance(fps, bool) or not 0 < fps <= 1e6:
        raise DatasetError(f"{path}: fps is {fps!r}")
    _width(features.get("action"), root)
    return info
