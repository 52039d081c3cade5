"""Real episodes that only judge: played in the truth env for a benchmark, kept as a dataset, never trained on.

What was collected to train on is often too short to judge by (InvertedPendulum's noise ends after a few steps), so a
saved policy, disturbed by smooth noise, keeps an episode going as long as a horizon needs; plain smooth noise shows how
episodes end. Seeds are far from those of collecting, training and ``agents.evaluate``.
"""

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import gymnasium as gym
import numpy as np
from tqdm import tqdm

from procosm.agents.judge.open_loop import Windows, window
from procosm.agents.judge.rollouts import SLOTS, Player, actor, eyes_of
from procosm.agents.policy.worlds import truth
from procosm.envs.collect.policies import Smooth
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.episodes import Episode, load_episodes, write_dataset
from procosm.world_model.errors import DatasetError
from procosm.world_model.provenance import provenance

SEEDS = {"policy with noise": 8_000_000, "smooth noise": 8_500_000}
"""First seed of each behaviour; episode i begins at the reset with seed + i."""
DISTURBANCE = 0.3
"""Share of the smooth noise that is added to a policy's actions."""
TRIES = 8
"""Episodes played for each one wanted, at most: some end before the context is full."""

Logged = tuple[Episode, np.ndarray]


def judging_episodes(
    folder: Path, model: WorldModel, behaviour: str, player: Player | None, count: int, steps: int
) -> list[Episode]:
    """``count`` episodes that outlast the model's context, of at most ``steps`` steps; read where they were played.

    Args:
        folder: of the dataset. behaviour: a key of ``SEEDS``. player: the policy, for "policy with noise"; else None.

    Raises:
        DatasetError: nearly all episodes end before the context is full.
    """
    if not folder.exists():
        task, kept = model.task, []
        envs = [truth(task, "pixels") for _ in range(min(SLOTS, count))]
        with tqdm(total=count, desc=f"judging: {behaviour}", unit="episode", file=sys.stderr) as bar:
            for first in range(0, TRIES * count, len(envs)):
                seeds = range(SEEDS[behaviour] + first, SEEDS[behaviour] + first + len(envs))
                played = _wave(envs, model, player, seeds, min(steps, task.max_episode_steps))
                kept += [each for each in played if len(each[0].actions) >= model.dynamics.context]
                bar.update(min(len(kept), count) - bar.n)
                if len(kept) >= count:
                    break
        if len(kept) < count:
            raise DatasetError(f"only {len(kept)} of {count} episodes of {behaviour} in {task.id} outlast the context")
        spec = envs[0].spec
        assert spec is not None
        write_dataset(folder, task, kept[:count], provenance({}), spec.to_json())
        for env in envs:
            env.close()
    return load_episodes(folder)


def one_window_each(episodes: Sequence[Episode], context: int, horizon: int, seed: int) -> tuple[Windows, list[int]]:
    """One window from each episode, for independence: anywhere in a long episode, from the start of a short one.

    Returns:
        the windows, and the step of each one's episode at which its context ends.
    """
    generator, starts = np.random.default_rng(seed), []
    for episode in episodes:
        spare = max(0, len(episode.actions) - (context - 1) - horizon)
        starts.append(int(generator.integers(spare + 1)) + context - 1)
    chosen = zip(episodes, starts, strict=True)
    return Windows.stack([window(e, start - context + 1, context, horizon) for e, start in chosen]), starts


def _wave(
    envs: Sequence[gym.Env], model: WorldModel, player: Player | None, seeds: Sequence[int], steps: int
) -> Iterator[Logged]:
    """One episode for each seed, side by side."""
    noise = [Smooth(model.task) for _ in seeds]
    for each, seed in zip(noise, seeds, strict=True):
        each.begin(np.random.default_rng(seed))
    logs = [_Log(*env.reset(seed=seed)) for env, seed in zip(envs, seeds, strict=True)]
    eyes = None if player is None else eyes_of(player.observation, model, len(seeds))
    act = None if player is None else actor(player, model.task, seeds[0])
    low, high = model.task.bounds
    going = list(range(len(seeds)))
    for step in range(steps):
        # Smooth noise looks at nothing: it is given no state and no frame.
        drawn = np.stack([noise[slot].act(low, lambda: low) for slot in going])
        if eyes is not None and act is not None:
            chosen = act(
                eyes.see(np.array(going), np.stack([logs[slot].frames[-1] for slot in going]), first=step == 0)
            )
            drawn = np.clip(chosen + DISTURBANCE * (drawn - 0.5 * (low + high)), low, high)
        going = [slot for slot, action in zip(going, drawn, strict=True) if logs[slot].step(envs[slot], action)]
        if not going:
            break
    for log in logs:
        yield log.logged()


class _Log:
    """One episode while it is played."""

    def __init__(self, frame: np.ndarray, info: dict) -> None:
        self.frames, self.states, self.physics = [frame], [info["state"]], [info["physics"]]
        self.actions: list[np.ndarray] = []
        self.rewards: list[float] = []
        self.terminated = False

    def step(self, env: gym.Env, action: np.ndarray) -> bool:
        """Take a step; says whether the episode goes on."""
        frame, reward, self.terminated, truncated, info = env.step(action)
        self.frames.append(frame)
        self.states.append(info["state"])
        self.physics.append(info["physics"])
        self.actions.append(np.asarray(action, np.float32))
        self.rewards.append(float(reward))
        return not (self.terminated or truncated)

    def logged(self) -> Logged:
        signals = {"state": np.stack(self.states), "reward": np.array(self.rewards, np.float32)}
        arrays = np.stack(self.frames), np.stack(self.actions)
        episode = Episode(*arrays, bool(self.terminated), "holdout", signals=signals)
        return episode, np.stack(self.physics)
