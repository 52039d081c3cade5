"""Any Gymnasium task that runs on MuJoCo as a simulator, with the wrappers it was registered with."""

import traceback
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.wrappers import TimeLimit

from procosm.envs.truth.backend import mujoco
from procosm.envs.truth.names import close_names, function_of, import_module_of, is_file_name
from procosm.envs.truth.simulator import DEFAULT_STEPS, finite_bounds
from procosm.world_model.errors import TaskError


class GymnasiumTask:
    """A task by its Gymnasium id. Its wrappers stay: they are part of its rewards, observations and actions.

    Only the time limit that ``gym.make`` adds is left out, because episodes here have their own; a task that cuts
    itself off is cut off.

    Raises:
        TaskError: no such task, it does not run on MuJoCo, or something it needs cannot be found out.
    """

    def __init__(self, name: str, env_kwargs: Mapping[str, Any]) -> None:
        self._name = name
        self._env, limit = _make(name, env_kwargs)
        base = self._env.unwrapped
        model, data = _attribute_of(base, "model", mujoco.MjModel), _attribute_of(base, "data", mujoco.MjData)
        space = self._env.action_space
        if not model or not data or not isinstance(space, gym.spaces.Box):
            raise TaskError(f"task {name!r} does not run on MuJoCo with continuous actions, so no camera can see it")
        if len(space.shape) != 1:
            raise TaskError(f"task {name!r} takes actions of shape {space.shape}: they must be one row of numbers")
        self._model_name, self._data_name = model, data
        self.action_low, self.action_high = finite_bounds(space.low, space.high)
        self.max_steps = limit or DEFAULT_STEPS
        self.instruction = ""
        try:
            self.state_size = gym.spaces.flatdim(self._env.observation_space)
        except (ValueError, NotImplementedError) as error:
            raise TaskError(f"task {name!r} has observations that are no list of numbers: {error}") from error
        self.success: bool | None = None
        self.dt_s = self._control_seconds()
        # Where bodies are led by hand (mocap), the physics state is not all that decides the next step.
        self.reads_state = not self.model.nmocap and self._can_read_state()

    @property
    def model(self) -> mujoco.MjModel:
        """The model of this moment; a task may replace it in a reset."""
        return getattr(self._env.unwrapped, self._model_name)

    @property
    def data(self) -> mujoco.MjData:
        """The data of this moment."""
        return getattr(self._env.unwrapped, self._data_name)

    def reset(self, seed: int | None, instruction: str | None = None) -> np.ndarray:
        """Start an episode; returns the state, float32 (s,).

        Raises:
            TaskError: an instruction that the task refuses, or does not take.
        """
        try:
            asked = {} if instruction is None else {"options": {"instruction": instruction}}
            observation, info = self._env.reset(seed=seed, **asked)
        except ValueError as error:
            if instruction is None:
                raise
            raise TaskError(f"options['instruction']: task {self._name!r} says: {error}") from error
        self.instruction = str(info.get("instruction", ""))
        if instruction is not None and self.instruction != instruction:
            raise TaskError(f"options['instruction']: task {self._name!r} is not told anything in words")
        return self._vector(observation)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """One control step: state, reward, whether the task ended for good, and whether it was cut off."""
        observation, reward, terminated, truncated, info = self._env.step(action)
        self._note_success(info)
        return self._vector(observation), float(reward), bool(terminated), bool(truncated)

    def state(self) -> np.ndarray:
        """The state, float32 (s,), of ``data`` as it is now.

        Raises:
            TaskError: the task has no ``_get_obs``, or a wrapper of it makes something else of an observation.
        """
        if not self.reads_state:
            raise TaskError(
                f"task {self._name!r} cannot tell its state in a given physics state: it has no _get_obs(), or a "
                "wrapper of it remembers what it saw. Start it with reset(seed=...) only; collect with --wide 0"
            )
        return self._read()

    def close(self) -> None:
        """Let go of the task."""
        # Not the environment's close(): its own renderer was never opened, and must not touch ours.
        del self._env

    def __getstate__(self) -> dict[str, Any]:
        # Gymnasium's own tasks pickle as their arguments alone, and a copy would begin anew.
        return {**vars(self), "inside": vars(self._env.unwrapped)}

    def __setstate__(self, state: dict[str, Any]) -> None:
        inside = state.pop("inside")
        vars(self).update(state)
        vars(self._env.unwrapped).update(inside)

    def _vector(self, observation: object) -> np.ndarray:
        try:
            vector = np.asarray(gym.spaces.flatten(self._env.observation_space, observation), np.float32)
        except (KeyError, TypeError, ValueError) as error:
            raise TaskError(f"task {self._name!r} shows what is not in its observation_space: {error!r}") from error
        if vector.shape != (self.state_size,):
            raise TaskError(
                f"task {self._name!r} shows {vector.size} numbers where its observation_space has {self.state_size}"
            )
        return vector

    def _read(self) -> np.ndarray:
        observation = cast(Any, self._env.unwrapped)._get_obs()
        for wrapper in reversed(list(_layers(self._env))):
            if isinstance(wrapper, gym.ObservationWrapper):
                observation = wrapper.observation(observation)
        return self._vector(observation)

    def _can_read_state(self) -> bool:
        """Whether ``_get_obs`` and the wrappers give again what a reset has just shown."""
        shown = self.reset(None)
        try:
            return bool(np.array_equal(self._read(), shown, equal_nan=True))
        except Exception:  # somebody else's code, only tried
            return False

    def _control_seconds(self) -> float:
        """Seconds of simulated time in a control step: the task's own ``dt``, or else what one step takes.

        The step shows whether the task tells of success, too.
        """
        self._env.reset()
        begun, middle = self.data.time, 0.5 * (self.action_low + self.action_high)
        self._note_success(self._env.step(middle.astype(self._env.action_space.dtype))[4])
        dt = getattr(self._env.unwrapped, "dt", None)
        if isinstance(dt, float | int | np.number) and dt > 0:
            return float(dt)
        return float(self.data.time - begun) or float(self.model.opt.timestep)

    def _note_success(self, info: Mapping[str, Any]) -> None:
        """Gymnasium-Robotics and Meta-World say it by different names."""
        told = info.get("is_success", info.get("success"))
        self.success = None if told is None else bool(told)


def _make(name: str, env_kwargs: Mapping[str, Any]) -> tuple[gym.Env, int | None]:
    """The environment without the time limit that ``gym.make`` adds, and that limit."""
    if is_file_name(name):
        return _made_by(function_of(name), name, env_kwargs)
    import_module_of(name)
    try:
        spec = gym.spec(name.rpartition(":")[2])
        env = gym.make(name, disable_env_checker=True, **env_kwargs)
    except (Exception, SystemExit) as error:
        known = [key for key, spec in gym.registry.items() if "mujoco" in str(spec.entry_point)]
        hint = close_names(name, [key for key in known if not key.startswith("Procosm/")])
        if not isinstance(error, gym.error.Error):
            hint = "at " + traceback.format_tb(error.__traceback__)[-1].strip().splitlines()[0]
        raise TaskError(f"task {name!r} cannot be opened: {error}; {hint}") from error
    if spec.max_episode_steps is None:
        return env, None
    declared = sum(wrapper.entry_point.endswith(":TimeLimit") for wrapper in spec.additional_wrappers)
    limits = [layer for layer in _layers(env) if isinstance(layer, TimeLimit)]
    return _without(env, limits[declared]), spec.max_episode_steps


def _made_by(function: Callable[..., Any], name: str, env_kwargs: Mapping[str, Any]) -> tuple[gym.Env, int | None]:
    """What a function of the user's makes; its outermost ``TimeLimit`` says how long episodes are, and is left out."""
    try:
        env = function(**env_kwargs)
    except (Exception, SystemExit) as error:
        line = traceback.format_tb(error.__traceback__)[-1].strip().splitlines()[0]
        raise TaskError(f"task {name!r} cannot be made: {error!r}; at {line}") from error
    if not isinstance(env, gym.Env):
        raise TaskError(f"task {name!r} gave {type(env).__name__}: it must return a gymnasium.Env")
    limit = next((layer for layer in _layers(env) if isinstance(layer, TimeLimit)), None)
    return (env, None) if limit is None else (_without(env, limit), limit._max_episode_steps)


def _layers(env: gym.Env) -> Iterator[gym.Wrapper]:
    """The wrappers, outermost first."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env


def _without(env: gym.Env, layer: gym.Wrapper) -> gym.Env:
    if env is layer:
        return layer.env
    assert isinstance(env, gym.Wrapper)  # layer is one of its wrappers
    env.env = _without(env.env, layer)
    return env


def _attribute_of(env: gym.Env, usual: str, kind: type) -> str:
    """The name under which an environment keeps its model or data, or "" where it has none."""
    if isinstance(getattr(env, usual, None), kind):
        return usual
    return next((name for name, value in vars(env).items() if isinstance(value, kind)), "")
