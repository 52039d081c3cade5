"""A model-free learner, saved on its way."""

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from stable_baselines3.common.base_class import BaseAlgorithm

from procosm.envs.collect.policy_file import save_learner


def save_on_the_way(learner: BaseAlgorithm, marks: Mapping[Path, int]) -> Iterator[float]:
    """Learn on to each number of steps, in rising order, and save at its path; gives CPU seconds of learning so far."""
    seconds = 0.0
    for path, mark in marks.items():
        began = time.process_time()
        learner.learn(max(0, mark - learner.num_timesteps), reset_num_timesteps=False)
        seconds += time.process_time() - began
        path.parent.mkdir(parents=True, exist_ok=True)
        save_learner(learner, path)
        learner._last_obs = None  # the next part begins with new episodes
        yield seconds
