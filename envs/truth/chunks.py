"""A twin that takes steps of several frames, as the dreams of models do whose latents stand for several."""

from typing import Any

import gymnasium as gym
import numpy as np

from procosm.world_model.errors import TaskError


class ChunkedSteps(gym.Wrapper):
    """Each step takes k actions (k, a), one after the other, and gives what they led to as one.

    The reward is their sum, the observation that after the last, and ``info["frames"]``, (k, H, W, 3) uint8, holds all
    frames, of several views side by side. After an episode's end no action is taken: its last frame stands still.
    """

    def __init__(self, env: gym.Env, frames_per_step: int) -> None:
        """Steps of ``frames_per_step`` steps of ``env``, a truth env.

        Raises:
            TaskError: fewer than two, or no whole number.
        """
        super().__init__(env)
        k = frames_per_step
        if isinstance(k, bool) or not isinstance(k, int | np.integer) or k < 2:
            raise TaskError(f"frames_per_step={k!r}: give a whole number of frames from 2 up, or leave it out")
        self.frames_per_step = int(k)
        space = env.action_space
        assert isinstance(space, gym.spaces.Box)  # a task's actions are motors
        low, high = (np.repeat(bound[None], k, axis=0) for bound in (space.low, space.high))
        self.action_space = gym.spaces.Box(low, high, dtype=np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Begin an episode; ``info["frames"]`` shows its first frame k times."""
        observed, info = self.env.reset(seed=seed, options=options)
        return observed, info | {"frames": np.stack([self._frame()] * self.frames_per_step)}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take (k, a) actions.

        Raises:
            TaskError: actions of another shape.
        """
        actions = np.asarray(action)
        if actions.shape != self.action_space.shape:
            raise TaskError(f"actions of shape {actions.shape}: a step here takes {self.action_space.shape}")
        total, frames = 0.0, []
        for each in actions:
            observed, reward, terminated, truncated, info = self.env.step(each)
            total += float(reward)
            frames.append(self._frame())
            if terminated or truncated:
                break
        frames += [frames[-1]] * (self.frames_per_step - len(frames))
        return observed, total, terminated, truncated, info | {"frames": np.stack(frames)}

    def _frame(self) -> np.ndarray:
        frame: Any = self.env.unwrapped.render()
        return frame
