"""How long can anything be followed? MuJoCo against itself, from a start that is a little off, under the same actions.

A pendulum under a recorded policy's actions falls if it stands a hair elsewhere: there no model, however good, stays
near the truth, and its error says more about the task than about the model. These controls show where that begins:
MuJoCo from a start that is off by a set amount, and from the start that the world model reads from the same pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from procosm.agents.judge.intervals import interval
from procosm.agents.judge.open_loop import Windows
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.data.episodes import MAIN_FILE
from procosm.world_model.data.task import Task

OFF = 0.1
"""Of every position's and speed's deviation over the judging episodes: about what can be read from 64 pixels."""
METHOD = f"MuJoCo, start {100 * OFF:.0f} % off"
AS_READ = "MuJoCo, start as read"


def mujoco_rows(
    task: Task,
    folder: Path,
    starts: Sequence[int],
    windows: Windows,
    read: np.ndarray,
    scale: np.ndarray,
    horizons: Sequence[int],
    seed: int,
) -> list[dict[str, Any]]:
    """Rows of ``state_nrmse`` as ``scores`` gives them, for both controls.

    Args:
        folder: dataset of the episodes. starts: of each, the step at which its window's context ends.
        read: (n, s) the true state at that step as the world model reads it.
        scale: (s,) deviations of the true state.
    """
    physics = physics_of(folder)
    begun = np.stack([states[start] for states, start in zip(physics, starts, strict=True)])
    begins = {
        METHOD: disturbed(task, physics, begun, OFF, seed),
        AS_READ: as_read(begun, windows.signals["state"][:, 0], read),
    }
    rows = []
    for method, begin in begins.items():
        states = followed(task, begin, windows.actions)
        for horizon in horizons:
            there = windows.steps >= horizon
            if there.any():
                apart = (
                    states[there, horizon - 1].astype(np.float64) - windows.signals["state"][there, horizon]
                ) / scale
                found = interval(lambda x: x.mean(axis=-1), np.sqrt(np.square(apart).mean(axis=1)), seed=seed)
                row = {"metric": "state_nrmse", "method": method, "horizon": horizon, "unit": "standard deviation"}
                rows.append(row | found.as_dict())
    return rows


def disturbed(task: Task, physics: Sequence[np.ndarray], begun: np.ndarray, off: float, seed: int) -> np.ndarray:
    """(n, p) the physics ``begun``, every position and speed ``off`` deviations of the episodes' ``physics`` away."""
    generator, model = np.random.default_rng(seed), MujocoEnv.from_task(task, observation="state").simulator.model
    deviation = np.concatenate(physics).std(axis=0)
    deviation[0] = 0.0  # time
    deviation[1 + model.nq + model.nv :] = 0.0  # what else a task remembers
    return begun + off * deviation * generator.standard_normal(begun.shape)


def as_read(begun: np.ndarray, states: np.ndarray, read: np.ndarray) -> np.ndarray:
    """(n, p) the physics ``begun`` (n, p) with ``read`` (n, s) in place of what the true ``states`` (n, s) say.

    An entry that the state holds as it is (a joint's angle, a speed) is replaced; one that it holds in another form (an
    angle's cosine) or not at all stays true, to MuJoCo's advantage.
    """
    begin = begun.copy()
    for entry in range(begun.shape[1]):
        same = np.isclose(states, begun[:, entry, None], rtol=1e-5, atol=1e-6).all(axis=0)
        if begun[:, entry].std() > 0 and same.any():
            begin[:, entry] = read[:, same.argmax()]
    return begin


def followed(task: Task, begin: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """(n, t, s) true states after each of (n, t, a) actions, from (n, p) physics."""
    env = MujocoEnv.from_task(task, observation="state")
    states = np.empty((*actions.shape[:2], task.state_size), np.float32)
    env.reset(seed=0)
    for i, physics in enumerate(begin):
        env.set_physics(physics)
        for t, action in enumerate(actions[i]):
            states[i, t] = env.step(action)[4]["state"]
    env.close()
    return states


def physics_of(folder: Path) -> list[np.ndarray]:
    """Each episode's physics states (T + 1, p), in order."""
    with h5py.File(folder / MAIN_FILE) as file:
        return [file[f"episode_{i}/infos/physics"][:] for i in range(len(file))]
