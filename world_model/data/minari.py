"""Minari datasets with images among their observations, read by Minari itself.

What else is observed becomes a signal: ``state`` and other names as they are, a nested one joined by dots.
"""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from procosm.world_model.data import rows
from procosm.world_model.data.episodes import Episode
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
from procosm.world_model.data.stored import read_any
from procosm.world_model.data.task import REWARD, TERMINATION, Signal
from procosm.world_model.errors import DatasetError

SIGNAL = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")


class MinariLogs:
    """The episodes of a Minari dataset; their names are ``episode_0`` and so on."""

    def __init__(self, config: LogsConfig) -> None:
        import gymnasium as gym
        from minari import MinariDataset

        folder = config.data / "data"
        self._folder = folder if (folder / "metadata.json").exists() else config.data
        self._dataset = MinariDataset(self._folder)
        space = self._dataset.action_space
        if not isinstance(space, gym.spaces.Box) or len(space.shape) != 1:
            raise DatasetError(f"{config.data} has actions {space}; a world model here takes vectors of numbers")
        self.names = [f"episode_{index}" for index in self._dataset.episode_indices]
        found = _spaces(self._dataset.observation_space)
        pictures = {key: each for key, each in found.items() if each.dtype == np.uint8 and len(each.shape or ()) == 3}
        sizes = {key: each.shape[:2] for key, each in pictures.items() if each.shape[2] == 3}
        self._cameras = choose_views(list(sizes), config)
        views = scaled_views({key: sizes[key] for key in self._cameras}, config)
        self._views = dict(zip(self._cameras, views, strict=True))
        self._signals = {
            key: Signal((each.shape[0],), "frame")
            for key, each in found.items()
            if len(each.shape or ()) == 1 and SIGNAL.fullmatch(key) and key not in ("pixels", "actions", "physics")
        }
        bounds = (space.low, space.high) if np.isfinite([space.low, space.high]).all() else None
        signals = self._signals | {"reward": REWARD, "termination": TERMINATION}
        scan = Scan(views, agreed_dt(None, config), self._actions(), signals, bounds)
        self.task = logged_task(self._dataset.id, scan)

    def read(self, name: str) -> Log:
        """One episode."""
        self._check_sizes(name)
        found = self._dataset[int(name.rpartition("_")[2])]
        seen = dict(_flat(found.observations))
        actions = rows.numbers(found.actions, len(self.task.action_low), None, "actions", name)
        count = len(actions) + 1
        frames = []
        for key in self._cameras:
            values = np.asarray(seen[key])
            if values.dtype != np.uint8 or values.ndim != 4 or len(values) != count:
                raise DatasetError(f"{name}: {key} is {values.dtype} {values.shape}, and {count} frames are needed")
            frames.append(scaled(values, self._views[key]))
        signals = {
            key: rows.numbers(seen[key], signal.shape[0], count, key, name) for key, signal in self._signals.items()
        }
        signals["reward"] = rows.numbers(found.rewards, None, count - 1, "rewards", name)
        ends = np.asarray(found.terminations, bool)
        if ends.shape != (count - 1,) or ends[:-1].any():
            raise DatasetError(f"{name}: terminations are {ends.shape}, and only the last step may end an episode")
        episode = Episode(np.concatenate(frames, 2), actions, bool(ends[-1]), "train", signals=signals)
        return Log(name, episode, np.arange(count) * self.task.dt_s)

    def _actions(self) -> Iterator[np.ndarray]:
        """Of each episode; only their lengths where the dataset says how far actions go."""
        for name in self.names:
            try:
                with h5py.File(self._folder / "main_data.hdf5", "r") as file:
                    yield read_any(file[name], "actions").astype(np.float64)
            except (DatasetError, KeyError, RuntimeError, ValueError):
                continue
            except OSError:  # another kind of storage
                yield np.asarray(self._dataset[int(name.rpartition("_")[2])].actions, np.float64)

    def _check_sizes(self, name: str) -> None:
        """Refuse an episode whose arrays claim more than its file holds, before Minari asks for the memory."""
        path: Path = self._folder / "main_data.hdf5"
        if not path.exists():
            return
        with h5py.File(path, "r") as file:
            group = file[name]
            claimed = sum(_claimed(group[key]) for key in group)
            if claimed > 1100 * path.stat().st_size:
                raise DatasetError(f"{name} says that it has {claimed:,} bytes, and {path} is {path.stat().st_size:,}")


def _claimed(item: h5py.Group | h5py.Dataset) -> int:
    return sum(_claimed(item[key]) for key in item) if isinstance(item, h5py.Group) else int(item.nbytes)


def _flat(values: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested observations by their names, joined by dots; a single array is called pixels."""
    if isinstance(values, Mapping):
        for key, inner in values.items():
            yield from _flat(inner, f"{prefix}{key}.")
    else:
        yield prefix.rstrip(".") or "pixels", values


def _spaces(space: Any, prefix: str = "") -> dict[str, Any]:
    """The boxes of an observation space by the names that observations have."""
    if not isinstance(getattr(space, "spaces", None), Mapping):
        return {prefix.rstrip(".") or "pixels": space} if hasattr(space, "low") else {}
    found: dict[str, Any] = {}
    for key, inner in space.spaces.items():
        found |= _spaces(inner, f"{prefix}{key}.")
    return found
