"""MuJoCo video to plant faults in: random and smooth actions, three tasks whose frames tell their actions, one not."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.data.task import Task
from procosm.world_model.files import write_bytes

FIRST_SEED = 10_000
"""Of the episodes measured here; the limits were chosen on others."""
SMOOTHNESS = (0.0, 0.5, 0.8)
TASKS = {"HalfCheetah-v5": 1, "Swimmer-v5": 2, "Reacher-v5": 2, "Pusher-v5": 1}
"""Each task with its action repeat. A Pusher's arm hardly moves between two frames."""


@dataclass(frozen=True)
class Recording:
    """Episodes of one task: frames (n, H, W, 3) and actions (n - 1, a) of each."""

    task: Task
    episodes: list[tuple[np.ndarray, np.ndarray]]


def record(name: str, seed: int, episodes: int, steps: int, folder: Path) -> Recording:
    """Episodes of a task, acted with noise of several smoothnesses; kept in ``folder`` once made."""
    env = MujocoEnv(name, frame_size=64, action_repeat=TASKS[name])
    path = folder / f"{name}-{seed}-{episodes}x{steps}.npz"
    if not path.exists():
        arrays = {}
        for index in range(episodes):
            arrays[f"frames{index}"], arrays[f"actions{index}"] = _episode(env, FIRST_SEED * (seed + 1) + index, steps)
        _save(path, arrays)
    with np.load(path) as found:
        pairs = [(found[f"frames{index}"], found[f"actions{index}"]) for index in range(episodes)]
    env.close()
    return Recording(env.task, pairs)


def _episode(env: MujocoEnv, seed: int, steps: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    smooth = float(rng.choice(SMOOTHNESS))
    low, high = env.action_space.low, env.action_space.high
    frame, _ = env.reset(seed=seed)
    frames, actions, action = [frame], [], np.zeros_like(low)
    for _ in range(steps):
        drawn = smooth * action + np.sqrt(1 - smooth**2) * rng.uniform(low, high)
        action = np.clip(drawn, low, high).astype(np.float32)
        frame, *_ = env.step(action)
        frames.append(frame)
        actions.append(action)
    return np.stack(frames), np.stack(actions)


def _save(path: Path, arrays: dict[str, np.ndarray]) -> None:
    import io

    memory = io.BytesIO()
    np.savez(memory, **arrays)  # type: ignore[arg-type]
    write_bytes(path, memory.getvalue())
