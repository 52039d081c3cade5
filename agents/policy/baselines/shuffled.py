"""Dreams in which acting teaches nothing: what is learned there beside a dream is not learned from acting."""

from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from procosm.world_model.errors import ProcosmError


class Shuffled(VecEnvWrapper):
    """Dreams whose slots take one another's actions: each step a new random cycle through all slots.

    What a slot is told of its own action is then noise, while states, rewards and their statistics stay a dream's.
    """

    def __init__(self, venv: VecEnv) -> None:
        """Shuffle the actions of ``venv``.

        Raises:
            ProcosmError: a single slot has no other whose action it could take.
        """
        if venv.num_envs < 2:
            raise ProcosmError("actions are shuffled among dreams: give at least two of them (--dreams 2)")
        super().__init__(venv)
        self._generator = np.random.default_rng(0)

    def seed(self, seed: int | None = None) -> Any:
        """Seed the dreams and the cycles."""
        self._generator = np.random.default_rng(seed)
        return self.venv.seed(seed)

    def reset(self) -> VecEnvObs:
        """Begin new dreams."""
        return self.venv.reset()

    def step_async(self, actions: np.ndarray) -> None:
        """(n, a) actions, each for another slot than the one that chose it."""
        order = self._generator.permutation(self.num_envs)
        others = np.empty_like(actions)
        others[order] = actions[np.roll(order, 1)]
        self.venv.step_async(others)

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step."""
        return self.venv.step_wait()
