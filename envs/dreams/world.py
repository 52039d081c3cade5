"""WorldModelEnv: a learned world model as an ordinary Gymnasium environment."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from procosm.envs.dreams.arguments import usable_actions
from procosm.envs.dreams.dreams import Dreams
from procosm.envs.dreams.observe import (
    Observation,
    Observed,
    action_space,
    checked_options,
    checked_seed,
    dream_space,
    row,
)
from procosm.envs.dreams.reward import Reward
from procosm.envs.dreams.spec import NO_LIMIT, PortableSpec, checked_limit, with_time_limit
from procosm.envs.dreams.starts import given_start, said
from procosm.envs.dreams.weights import open_model
from procosm.envs.dreams.world_vector import checked_render_mode
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.errors import TaskError


class WorldModelEnv(PortableSpec, gym.Env):
    """One dream: the batch of one over the same code as ``WorldModelVectorEnv``.

    Same observation and action spaces as the truth env of its task. ``info`` holds ``start``, the window of real frames
    the dream began with, and what the checkpoint can tell of ``state`` (s,), the model's estimate of the task's true
    state, ``success``, whether the last step was at the task's goal, and ``trust``, how probable it is that MuJoCo is
    now where the dream says (``procosm.envs.trust.trust``).
    Where a step of the model is k > 1 frames, an action is (k, a), the reward their sum, and ``info["frames"]`` holds
    them all, (k, H, W, 3); after a reset each is the first frame.
    """

    action_space: gym.spaces.Box
    metadata = {"render_modes": ["rgb_array"]}  # noqa: RUF012

    def __init__(
        self,
        checkpoint: str | Path | WorldModel | None = None,
        observation: str | Sequence[str] = "pixels",
        denoising_steps: int = 1,
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        device: str | torch.device = "cpu",
        starts: str | Sequence[int] = "task",
        name: str | None = None,
        trust_below: float | None = None,
        mixed: bool = False,
        reward: Reward | None = None,
        sampling: Mapping[str, Any] | None = None,
    ) -> None:
        """Open a world model; the arguments are those of ``WorldModelVectorEnv``.

        Raises:
            CheckpointError: no checkpoint, or one that cannot be read.
            TaskError: an argument out of range.
        """
        self.render_mode = checked_render_mode(render_mode)
        self.shown = Observation.parse(observation)
        model = open_model(checkpoint, name, device, mixed)
        self.dreams = Dreams(model, 1, denoising_steps, max_episode_steps, starts, trust_below, reward, sampling)
        self.task = model.task
        self.metadata = {**type(self).metadata, "render_fps": max(1, round(1 / model.task.dt_s))}
        self.observation_space = dream_space(self.shown, model)
        self.action_space = action_space(model.task, model.frames_per_step)
        self.conditions = model.conditions
        self._begun = False

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observed, dict[str, Any]]:
        """Begin a new dream.

        Args:
            seed: as Gymnasium has it.
            options: ``start``: the window it begins with; or ``frames``: (t, H, W, 3) uint8 real frames that it begins
                after, newest last (of several views a dict by name), with ``actions`` (t - 1, a), what was done
                between them, NaN where it is not known. ``instruction``: what the dream is told in words, where the
                model takes some ("" tells nothing); else what was asked for where the window was logged.

        Raises:
            TaskError: unknown options, no such window, frames or actions that do not fit, or a seed that is no whole
                number from 0 up.
        """
        options = checked_options(options, ("start", "frames", "actions", "instruction"))
        given, start = given_start(self.dreams.model, options, ()), options.get("start")
        window = None if start is None else self.dreams.windows.checked(start)
        told = said(self.dreams.model, options, 1)
        super().reset(seed=checked_seed(seed))
        self.dreams.restart(np.zeros(1, np.int64), [self.np_random], [window], given, told)
        self._begun = True
        return row(self.dreams.observe(self.shown), 0), self._info()

    def step(self, action: np.ndarray) -> tuple[Observed, float, bool, bool, dict[str, Any]]:
        """One step under an action (a,), which is clipped to its bounds.

        Raises:
            TaskError: before the first reset, or an action of another shape or not finite.
            ProcosmError: the model predicted something that is not a number.
        """
        if not self._begun:
            raise TaskError("no dream goes on (none has begun, or it was closed): call reset() before step()")
        outcome = self.dreams.advance(usable_actions(action, self.action_space)[None])
        reward, terminated, truncated = (values[0].item() for values in outcome)
        return row(self.dreams.observe(self.shown), 0), reward, terminated, truncated, self._info()

    def render(self) -> np.ndarray | None:
        """The newest frame, (H, W, 3) uint8, its views side by side; None without ``render_mode="rgb_array"``."""
        if self.render_mode is None:
            return None
        if not self._begun:
            raise TaskError("no dream goes on (none has begun, or it was closed): call reset() before render()")
        return self.dreams.frames()[0]

    def close(self) -> None:
        """End the dream; ``reset`` begins another."""
        self._begun = False

    def _info(self) -> dict[str, Any]:
        info: dict[str, Any] = {"start": self.dreams.start[0]}
        if self.dreams.step_frames is not None:
            info["frames"] = self.dreams.step_frames[0].copy()
        if self.dreams.said is not None:
            info["instruction"] = self.dreams.said[0]
        if self.dreams.state is not None:
            info["state"] = self.dreams.state[0].copy()
        if self.dreams.success is not None:
            info["success"] = bool(self.dreams.success[0])
        if self.dreams.trust is not None:
            info["trust"] = self.dreams.trust[0]
        return info


def make_dream(max_episode_steps: int | None = None, **options: Any) -> gym.Env:
    """What ``gym.make`` makes: a ``WorldModelEnv``, cut by ``TimeLimit`` and by nothing else.

    Args:
        max_episode_steps: from a spec; ``gym.make`` keeps its own to itself. None for the task's own, -1 for no limit.
        options: the other keywords of ``WorldModelEnv``.

    Raises:
        CheckpointError, TaskError: as ``WorldModelEnv``.
    """
    limit = checked_limit(max_episode_steps)
    env = WorldModelEnv(max_episode_steps=NO_LIMIT, **options)
    return with_time_limit(env, limit or env.task.max_episode_steps)


make_dream.metadata = WorldModelEnv.metadata  # type: ignore[attr-defined]  # gym.make looks for render modes here
