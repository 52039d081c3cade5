"""A task of dm_control's suite as a simulator."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from procosm.envs.truth.backend import mujoco
from procosm.envs.truth.names import close_names
from procosm.envs.truth.simulator import DEFAULT_STEPS, finite_bounds
from procosm.world_model.errors import TaskError

PREFIX = "dm_control/"


class ControlTask:
    """``dm_control/<domain>-<task>``.

    Raises:
        TaskError: no such task, dm_control is not installed, or the task does not take these arguments.
    """

    reads_state = True
    success: bool | None = None
    instruction = ""

    def __init__(self, name: str, env_kwargs: Mapping[str, Any]) -> None:
        try:
            from dm_control import suite
        except ImportError as error:
            raise TaskError(f"task {name!r} needs dm_control: pip install 'procosm[data]'") from error
        domain, _, task = name.removeprefix(PREFIX).partition("-")
        task = task.replace("-", "_")
        if (domain, task) not in suite.ALL_TASKS:
            known = [f"{PREFIX}{pair[0]}-{pair[1]}" for pair in suite.ALL_TASKS]
            raise TaskError(f"task {name!r} is not in dm_control's suite; {close_names(name, known)}")
        try:
            limit_steps = suite.load(domain, task, task_kwargs=dict(env_kwargs))._step_limit
            endless = {**env_kwargs, "time_limit": float("inf"), "random": 0}
            self._env = suite.load(domain, task, task_kwargs=endless)
        except TypeError as error:
            raise TaskError(f"task {name!r} does not take env_kwargs {dict(env_kwargs)}: {error}") from error
        # Seeded while it is made, for some tasks draw their model then (lqr); what follows is drawn by the resets.
        self._env.task.random.seed()
        self.max_steps = round(limit_steps) if np.isfinite(limit_steps) else DEFAULT_STEPS
        spec = self._env.action_spec()
        self.action_low, self.action_high = finite_bounds(
            np.broadcast_to(spec.minimum, spec.shape), np.broadcast_to(spec.maximum, spec.shape)
        )
        self.dt_s = float(self._env.control_timestep())
        self.state_size = sum(int(np.prod(part.shape)) for part in self._env.observation_spec().values())

    @property
    def model(self) -> mujoco.MjModel:
        """The model of this moment; a task may replace it in a reset."""
        return self._env.physics.model.ptr

    @property
    def data(self) -> mujoco.MjData:
        """The data of this moment."""
        return self._env.physics.data.ptr

    def reset(self, seed: int | None, instruction: str | None = None) -> np.ndarray:
        """Start an episode; returns the state, float32 (s,)."""
        if instruction is not None:
            raise TaskError("options['instruction']: tasks of dm_control are not told anything in words")
        if seed is not None:
            # NumPy's older generator, which dm_control draws from, takes 32 bits at a time.
            words = seed if 0 <= seed < 2**32 else np.random.SeedSequence(seed).generate_state(8)
            self._env.task.random.seed(words)
        return _vector(self._env.reset().observation)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """One control step: state, reward, whether the task ended for good, and whether it was cut off."""
        from dm_control.rl.control import PhysicsError

        try:
            step = self._env.step(action)
        except PhysicsError:
            # The simulation diverged: Gymnasium's tasks end there, and so does this.
            return self.state(), 0.0, True, False
        # With no time limit an episode ends only by the task's own will; discount 1 there means "cut off".
        ended, cut = step.last() and step.discount == 0.0, step.last() and step.discount != 0.0
        return _vector(step.observation), float(step.reward or 0.0), ended, cut

    def state(self) -> np.ndarray:
        """The state, float32 (s,), of ``data`` as it is now."""
        return _vector(self._env.task.get_observation(self._env.physics))

    def close(self) -> None:
        """Free what the task holds."""
        self._env.close()


def _vector(observation: dict) -> np.ndarray:
    return np.concatenate([np.ravel(np.asarray(part, np.float32)) for part in observation.values()])
