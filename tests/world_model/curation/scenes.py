"""Small drawn films with a known answer: a square that actions push over a textured floor, one or two cameras."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from procosm.benchmarks.dream.curation.planted import COPIES, FAULTS
from procosm.world_model.data.episodes import Episode, write_dataset
from procosm.world_model.data.logs import Log
from procosm.world_model.data.task import REWARD, TERMINATION, Signal, Task, View

HEIGHT, WIDTH = 48, 64
TASK = Task(
    id="push the square",
    views=(View("front", HEIGHT, WIDTH),),
    action_low=(-1.0, -1.0),
    action_high=(1.0, 1.0),
    action_repeat=1,
    dt_s=0.05,
    max_episode_steps=200,
    signals={"proprio": Signal((2,), "frame"), "reward": REWARD, "termination": TERMINATION},
)
TWO_VIEWS = replace(TASK, views=(View("front", HEIGHT, WIDTH), View("wrist", HEIGHT, HEIGHT)))


def floor(seed: int, height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    """A background with texture, the same for the same seed, (h, w, 3) uint8."""
    coarse = np.random.default_rng(seed).integers(40, 160, (-(-height // 6), -(-width // 6), 3))
    return coarse.repeat(6, 0).repeat(6, 1)[:height, :width].astype(np.uint8)


def draw(place: np.ndarray, background: np.ndarray) -> np.ndarray:
    """A bright square of 10 pixels with its centre at ``place``, (0, 0) to (1, 1)."""
    frame = background.copy()
    y, x = (6 + place[::-1] * (np.array(frame.shape[:2]) - 12)).round().astype(int)
    frame[y - 5 : y + 5, x - 5 : x + 5] = (240, 200, 60)
    return frame


def episode(seed: int, steps: int = 40, task: Task = TASK, scene: int = 0) -> Episode:
    """One log: actions are velocities, each new one half the one before; float32 throughout."""
    rng = np.random.default_rng(seed)
    place, places, actions = rng.uniform(0.2, 0.8, 2), [], []
    action = np.zeros(2)
    places.append(place)
    for _ in range(steps):
        action = np.clip(0.5 * action + 0.8 * rng.uniform(-1, 1, 2), -1, 1).astype(np.float32)
        place = np.clip(place + 0.08 * action, 0, 1)
        actions.append(action)
        places.append(place)
    backgrounds = [floor(scene + index, HEIGHT, view.width) for index, view in enumerate(task.views)]
    frames = np.stack([np.concatenate([draw(place, each) for each in backgrounds], 1) for place in places])
    proprio = np.array(places, np.float32)
    return Episode(
        frames=frames,
        actions=np.array(actions, np.float32),
        terminated=bool(seed % 2),
        kind="train",
        signals={"proprio": proprio, "reward": -np.abs(proprio[1:]).sum(1)},
        text=f"push the square, number {seed % 3}",
    )


def log(seed: int, steps: int = 40) -> Log:
    """One recording with its clock."""
    return Log(f"log-{seed}", episode(seed, steps), np.arange(steps + 1) * TASK.dt_s)


def write_logs(path: Path) -> Path:
    """A dataset of ten good logs, a frozen one, a recoloured copy of the first, and two scenes in one film."""
    rng = np.random.default_rng(1)
    episodes = [episode(seed) for seed in range(10)]
    frames, _ = FAULTS["frozen"](episode(20).frames, episode(20).actions, rng)
    episodes += [
        replace(episode(20), frames=frames),
        replace(episodes[0], frames=COPIES["recolour"](episodes[0].frames, rng)),
    ]
    first, second = episode(31, 29), episode(32, 30, scene=9)
    episodes.append(
        replace(
            second,
            frames=np.concatenate([first.frames, second.frames]),
            actions=np.concatenate([first.actions, first.actions[:1], second.actions]),
            signals={
                "proprio": np.concatenate([first.signals["proprio"], second.signals["proprio"]]),
                "reward": np.concatenate([np.append(first.signals["reward"], np.float32(0)), second.signals["reward"]]),
            },
        )
    )
    write_dataset(path, TASK, ((each, None) for each in episodes), {}, "{}")
    return path
