"""Opens a simulator by its name: any Gymnasium MuJoCo task, or any of dm_control's suite, behind one small class each.

A simulator here is plain control steps: the task's own reset, observation vector ("state"), reward and termination.
Cameras, action repeat, time limits and seeds of segments are other files' business.
"""

import difflib
from typing import Any, Protocol, cast

import gymnasium as gym
import numpy as np

from procosm.envs import TASKS
from procosm.envs.backend import mujoco
from procosm.world_model.interface import TaskError

CONTROL_PREFIX = "dm_control/"
DEFAULT_STEPS = 1000


class Simulator(Protocol):
    """One task, stepped at its own control rate.

    Attributes:
        model, data: the MuJoCo model and data.
        action_low, action_high: (a,) float32, finite.
        max_steps: control steps after which the task's authors end an episode.
        dt_s: seconds of simulated time for each control step.
    """

    action_low: np.ndarray
    action_high: np.ndarray
    max_steps: int
    dt_s: float

    @property
    def model(self) -> mujoco.MjModel: ...
    @property
    def data(self) -> mujoco.MjData: ...

    def reset(self, seed: int | None) -> np.ndarray:
        """Start an episode; returns the state, float32 (s,)."""

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        """One control step: state, reward, and whether the task ended for good."""

    def state(self) -> np.ndarray:
        """The state, float32 (s,), of ``data`` as it is now."""

    def close(self) -> None:
        """Free what the task holds."""


def resolve_name(env: str) -> str:
    """The task meant by ``--env``: one of our names (``Reacher``, ``Procosm/Reacher-v0``) or a task's own id."""
    name = env.removeprefix("procosm.envs:").removeprefix("Procosm/").removesuffix("-v0").removesuffix("Truth")
    return TASKS.get(name, env)


def open_task(name: str) -> Simulator:
    """The simulator called ``name``: a Gymnasium id such as ``Reacher-v5``, or ``dm_control/<domain>-<task>``.

    Raises:
        TaskError: no such task, or its package is not installed, or it does not run on MuJoCo.
    """
    return _ControlTask(name) if name.startswith(CONTROL_PREFIX) else _GymnasiumTask(name)


def _bounds(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    # An actuator without limits gets -1 to 1: collecting and policies need something finite.
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return np.where(np.isfinite(low), low, np.float32(-1)), np.where(np.isfinite(high), high, np.float32(1))


def _suggest(name: str, known: list[str]) -> str:
    fold = {item.lower(): item for item in known}
    close = [fold[item] for item in difflib.get_close_matches(name.lower(), fold, n=5, cutoff=0.5)]
    return f"close names: {', '.join(close)}" if close else "procosm --help shows how tasks are named"


def _flatten(space: gym.Space, value: object) -> np.ndarray:
    return np.asarray(gym.spaces.flatten(space, value), np.float32)


class _GymnasiumTask:
    def __init__(self, name: str) -> None:
        try:
            # Any: a MuJoCo task has model, data, dt and _get_obs, which gym.Env does not declare.
            self._env = cast(Any, gym.make(name, disable_env_checker=True).unwrapped)
        except (gym.error.Error, ImportError) as error:
            known = [
                key
                for key, spec in gym.registry.items()
                if "mujoco" in str(spec.entry_point) and not key.startswith("Procosm/")
            ]
            raise TaskError(f"task {name!r} cannot be opened: {error}; {_suggest(name, known)}") from error
        self.model = getattr(self._env, "model", None)
        if not isinstance(self.model, mujoco.MjModel) or not isinstance(self._env.action_space, gym.spaces.Box):
            raise TaskError(f"task {name!r} does not run on MuJoCo with continuous actions, so no camera can see it")
        self.data = self._env.data
        space = self._env.action_space
        self.action_low, self.action_high = _bounds(space.low, space.high)
        self.max_steps = gym.spec(name).max_episode_steps or DEFAULT_STEPS
        self.dt_s = float(self._env.dt)

    def reset(self, seed: int | None) -> np.ndarray:
        return _flatten(self._env.observation_space, self._env.reset(seed=seed)[0])

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        observation, reward, terminated, _, _ = self._env.step(action)
        return _flatten(self._env.observation_space, observation), float(reward), bool(terminated)

    def state(self) -> np.ndarray:
        return _flatten(self._env.observation_space, self._env._get_obs())

    def close(self) -> None:
        # Not the environment's close(): its own renderer was never opened, and must not touch ours.
        self._env = None


class _ControlTask:
    def __init__(self, name: str) -> None:
        try:
            from dm_control import suite
        except ImportError as error:
            raise TaskError(f"task {name!r} needs dm_control: pip install 'procosm[data]'") from error
        domain, _, task = name.removeprefix(CONTROL_PREFIX).partition("-")
        task = task.replace("-", "_")
        if (domain, task) not in suite.ALL_TASKS:
            known = [f"{CONTROL_PREFIX}{pair[0]}-{pair[1]}" for pair in suite.ALL_TASKS]
            raise TaskError(f"task {name!r} is not in dm_control's suite; {_suggest(name, known)}")
        limit_steps = suite.load(domain, task)._step_limit
        self._env = suite.load(domain, task, task_kwargs={"time_limit": float("inf"), "random": 0})
        self.max_steps = round(limit_steps) if np.isfinite(limit_steps) else DEFAULT_STEPS
        spec = self._env.action_spec()
        low, high = np.broadcast_to(spec.minimum, spec.shape), np.broadcast_to(spec.maximum, spec.shape)
        self.action_low, self.action_high = _bounds(low, high)
        self.dt_s = float(self._env.control_timestep())

    @property
    def model(self) -> mujoco.MjModel:
        return self._env.physics.model.ptr

    @property
    def data(self) -> mujoco.MjData:
        return self._env.physics.data.ptr

    def reset(self, seed: int | None) -> np.ndarray:
        if seed is not None:
            self._env.task.random.seed(seed)
        return self._vector(self._env.reset().observation)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool]:
        from dm_control.rl.control import PhysicsError

        try:
            step = self._env.step(action)
        except PhysicsError:
            # The simulation diverged: Gymnasium's tasks end there, and so does this.
            return self.state(), 0.0, True
        # With no time limit an episode ends only by the task's own will; discount 1 there means "cut off".
        return self._vector(step.observation), float(step.reward or 0.0), step.last() and step.discount == 0.0

    def state(self) -> np.ndarray:
        return self._vector(self._env.task.get_observation(self._env.physics))

    def _vector(self, observation: dict) -> np.ndarray:
        return np.concatenate([np.ravel(np.asarray(part, np.float32)) for part in observation.values()])

    def close(self) -> None:
        self._env.close()
