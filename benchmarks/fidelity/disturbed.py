"""How long can anything be followed? MuJoCo against itself, from a start that is a little off, under the same actions.

A pendulum under a recorded policy's actions falls if it stands a hair elsewhere: there no model, however good, stays
near the truth, and its error says more about the task than about the model. This control shows where that begins.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from procosm.agents.intervals import interval
from procosm.agents.open_loop import Windows
from procosm.envs.mujoco import MujocoEnv
from procosm.world_model.episodes import MAIN_FILE, Task

OFF = 0.1
"""Of every position's and speed's deviation over the judging episodes: about what can be read from 64 pixels."""
METHOD = f"MuJoCo, start {100 * OFF:.0f} % off"


def disturbed_rows(
    task: Task,
    folder: Path,
    starts: Sequence[int],
    windows: Windows,
    scale: np.ndarray,
    horizons: Sequence[int],
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of ``state_nrmse`` as ``scores`` gives them.

    Args:
        folder: dataset of the episodes. starts: of each, the step at which its window's context ends.
        scale: (s,) deviations of the true state.
    """
    states = disturbed(task, physics_of(folder), starts, windows.actions, OFF, seed)
    rows = []
    for horizon in horizons:
        there = windows.steps >= horizon
        if there.any():
            apart = (states[there, horizon - 1].astype(np.float64) - windows.states[there, horizon]) / scale
            found = interval(lambda x: x.mean(axis=-1), np.sqrt(np.square(apart).mean(axis=1)), seed=seed)
            row = {"metric": "state_nrmse", "method": METHOD, "horizon": horizon, "unit": "standard deviation"}
            rows.append(row | found.as_dict())
    return rows


def disturbed(
    task: Task, physics: Sequence[np.ndarray], starts: Sequence[int], actions: np.ndarray, off: float, seed: int
) -> np.ndarray:
    """(n, t, s) true states after each of (n, t, a) actions, from (T + 1, p) physics at ``starts``, disturbed."""
    env, generator = MujocoEnv.from_task(task, observation="state"), np.random.default_rng(seed)
    deviation = np.concatenate(physics).std(axis=0)
    model = env.simulator.model
    deviation[0] = 0.0  # time
    deviation[1 + model.nq + model.nv :] = 0.0  # what else a task remembers
    states = np.empty((*actions.shape[:2], task.state_size), np.float32)
    env.reset(seed=0)
    for i, (states_then, start) in enumerate(zip(physics, starts, strict=True)):
        env.set_physics(states_then[start] + off * deviation * generator.standard_normal(len(deviation)))
        for t, action in enumerate(actions[i]):
            states[i, t] = env.step(action)[4]["state"]
    env.close()
    return states


def physics_of(folder: Path) -> list[np.ndarray]:
    """Each episode's physics states (T + 1, p), in order."""
    with h5py.File(folder / MAIN_FILE) as file:
        return [file[f"episode_{i}/infos/physics"][:] for i in range(len(file))]
