"""HDF5 files as robomimic lays them out: ``data/demo_N/actions``, ``data/demo_N/obs/NAME`` and perhaps ``next_obs``.

``obs`` holds what was seen before each action. Where ``next_obs`` has the images too, its last row is the last frame;
else the outcome of the last action was not recorded, and the action is left out.
"""

import json
import re
from collections.abc import Iterator
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
    files,
    logged_task,
    scaled,
    scaled_views,
)
from procosm.world_model.data.stored import member, read_any
from procosm.world_model.data.task import REWARD, TERMINATION, Signal
from procosm.world_model.errors import DatasetError

SIGNAL = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,39}")


class RobomimicLogs:
    """The demonstrations of HDF5 files; names are ``FILE/demo_N``."""

    def __init__(self, config: LogsConfig) -> None:
        self._files = {path.stem: path for path in files(config.data, ".hdf5", ".h5")}
        self.names = [f"{stem}/{demo}" for stem, path in self._files.items() for demo in _demos(path)]
        first = next(filter(None, (self._look(name) for name in self.names)), None)
        if first is None:
            raise DatasetError(f"{config.data} has no demonstration that can be read: data/demo_N/actions and obs")
        shapes, steps, control_hz, self._whole = first
        images = [key for key, (shape, kind) in shapes.items() if len(shape) == 4 and shape[3] == 3 and kind == "u"]
        self._cameras = choose_views(images, config)
        views = scaled_views({key: shapes[key][0][1:3] for key in self._cameras}, config)
        self._views = dict(zip(self._cameras, views, strict=True))
        self._signals = {
            key: Signal((shape[1],), "frame")
            for key, (shape, kind) in shapes.items()
            if len(shape) == 2 and shape[1] > 0 and shape[0] == steps and SIGNAL.fullmatch(key) and kind in "fiu"
        }
        extra = {"reward": REWARD, "termination": TERMINATION}
        scan = Scan(views, agreed_dt(control_hz, config), self._actions(), self._signals | extra)
        self.task = logged_task(config.data.resolve().stem, scan)

    def read(self, name: str) -> Log:
        """One demonstration."""
        with self._opened(name) as group:
            actions = rows.numbers(read_any(group, "actions"), len(self.task.action_low), None, "actions", name)
            steps = len(actions)
            frames = [self._frames(group, key, steps, name) for key in self._cameras]
            signals = {}
            for key, signal in self._signals.items():
                values = self._rows(group, key, steps, name)
                signals[key] = rows.numbers(values, signal.shape[0], None, key, name)
            count = len(frames[0])
            rewards = rows.numbers(read_any(group, "rewards"), None, steps, "rewards", name)
            dones = rows.numbers(read_any(group, "dones"), None, steps, "dones", name)
        if any(len(each) != count for each in (*frames, *signals.values())) or count < 2:
            raise DatasetError(f"{name}: {steps} actions, and frames {[len(each) for each in frames]}")
        episode = Episode(
            frames=np.concatenate(frames, 2),
            actions=actions[: count - 1],
            terminated=bool(dones[count - 2]),
            kind="train",
            signals={**signals, "reward": rewards[: count - 1]},
        )
        return Log(name, episode, np.arange(count) * self.task.dt_s)

    def _rows(self, group: h5py.Group, key: str, steps: int, name: str) -> np.ndarray:
        """An observation before each action and, where it is known, after the last one."""
        values = read_any(group, f"obs/{key}")
        if len(values) != steps:
            raise DatasetError(f"{name}: obs/{key} has {len(values)} rows, and there are {steps} actions")
        return np.concatenate([values, read_any(group, f"next_obs/{key}")[-1:]]) if self._whole else values

    def _frames(self, group: h5py.Group, key: str, steps: int, name: str) -> np.ndarray:
        values = self._rows(group, key, steps, name)
        if values.dtype != np.uint8 or values.ndim != 4 or values.shape[3] != 3:
            raise DatasetError(f"{name}: obs/{key} is {values.dtype} {values.shape}, and should be uint8 (n, H, W, 3)")
        return scaled(values, self._views[key])

    def _opened(self, name: str) -> "_Opened":
        stem, _, demo = name.rpartition("/")
        return _Opened(self._files[stem], demo)

    def _look(self, name: str) -> tuple[dict[str, tuple], int, float | None, bool] | None:
        """Shapes of a demonstration's observations, its steps, its rate and whether ``next_obs`` has all of them."""
        try:
            with self._opened(name) as group:
                steps = member(group, "actions").shape[0]
                shapes = {key: (each.shape, each.dtype.kind) for key, each in group["obs"].items()}
                whole = "next_obs" in group and set(shapes) <= set(group["next_obs"])
                return shapes, steps, _control_hz(group.parent.attrs.get("env_args")), whole
        except (DatasetError, KeyError, OSError, RuntimeError, AttributeError, IndexError, TypeError):
            return None

    def _actions(self) -> Iterator[np.ndarray]:
        for name in self.names:
            try:
                with self._opened(name) as group:
                    actions = read_any(group, "actions").astype(np.float64)
            except (DatasetError, KeyError, OSError, RuntimeError):
                continue
            if actions.ndim == 2:
                yield actions


class _Opened:
    """A demonstration's group while its file is open."""

    def __init__(self, path: Path, demo: str) -> None:
        self._path, self._demo = path, demo

    def __enter__(self) -> h5py.Group:
        try:
            self._file = h5py.File(self._path, "r")
        except OSError as error:
            raise DatasetError(f"{self._path.name} is cut off or damaged ({error})") from error
        return self._file["data"][self._demo]

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _demos(path: Path) -> list[str]:
    """Names of a file's demonstrations in order; a file that does not open has one, so that it is refused by name."""
    try:
        with h5py.File(path, "r") as file:
            return sorted(file["data"], key=lambda demo: (len(demo), demo))
    except (OSError, KeyError, RuntimeError, TypeError):
        return ["demo_0"]


def _control_hz(told: Any) -> float | None:
    """Steps per second, where the environment's arguments say so."""
    try:
        rate = json.loads(told)["env_kwargs"]["control_freq"]
        return float(rate)
    except (ValueError, KeyError, TypeError):
        return None
