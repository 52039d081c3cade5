"""MujocoEnv: any MuJoCo task seen through a camera. It is the truth that every dream is judged by."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any

import gymnasium as gym
import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from procosm.envs.dreams.arguments import check_truth, frame_sides, numbers, usable_actions
from procosm.envs.dreams.observe import Observation, checked_options, checked_seed, pixels_of
from procosm.envs.dreams.spec import NO_LIMIT, PortableSpec, checked_limit, plain
from procosm.envs.truth import backend
from procosm.envs.truth.backend import mujoco
from procosm.envs.truth.camera import Camera, choose_camera
from procosm.envs.truth.drawing import Drawing
from procosm.envs.truth.model_camera import ModelCamera, read_camera
from procosm.envs.truth.names import allow_import, check_import
from procosm.envs.truth.render import MULTISAMPLES, VERSION
from procosm.envs.truth.tasks import checked_kwargs, open_task
from procosm.world_model.data.task import MAIN, SUCCESS, Name, Task, Twin, View, logged_signals
from procosm.world_model.errors import TaskError
from procosm.world_model.schema import check_arguments

PHYSICS = int(mujoco.mjtState.mjSTATE_FULLPHYSICS)


class MujocoEnv(PortableSpec, gym.Env):
    """A MuJoCo task with pixels, its true state, or both, as the observation.

    Rewards, terminations and states are exactly the task's own. A frame is a function of the physics state alone.
    Actions outside the bounds are clipped to them before the task sees them, so a task's control cost is that of the
    clipped action. ``info`` holds ``state`` (float32 (s,), the task's own observation vector) and ``physics``
    (float64, MuJoCo's full physics state), which ``reset(options={"physics": ...})`` takes back: what a task keeps
    outside it (dm_control reacher's target is part of the model) comes from the seed. ``success`` is there where the
    task tells whether its goal is reached.

    Args:
        task: a Gymnasium id such as ``Reacher-v5`` or ``module:Mine-v0``, or ``dm_control/<domain>-<task>``.
        frame_size: height and width of a view, pixels: one number for both, or a pair.
        action_repeat: control steps of the task for each step here; rewards are summed.
        observation: ``pixels``, ``state``, or a tuple of both, which gives a dict. With several views ``pixels`` are a
            dict by their names.
        render_mode: ``rgb_array`` or None.
        max_episode_steps: steps here before an episode is truncated; None takes the task's own limit, -1 none.
        camera: where the eye stands: the name of a camera in the model, a pose (``lookat``, ``azimuth``, ``elevation``,
            ``distance``; ``procosm.envs.truth.camera.Camera``) or as in a saved task; None chooses one.
        cameras: in place of ``camera``, one or several of them by the names of their views.
        renderer: ``auto``, ``egl``, ``osmesa`` or ``raycast``.
        version: of the frames, as in a saved task: 1 without multisampling, as older checkpoints have seen them.
        env_kwargs: keyword arguments that the task is made with, JSON values.

    Raises:
        TaskError: no such task, an option that makes no sense, or a renderer that this machine lacks.
    """

    metadata = {"render_modes": ["rgb_array"], "render_fps": 30}  # noqa: RUF012 (gym.Env's own form)

    action_space: gym.spaces.Box

    def __init__(
        self,
        task: str,
        frame_size: int | str | Sequence[int] = 64,
        action_repeat: int = 1,
        observation: str | Sequence[str] = "pixels",
        render_mode: str | None = "rgb_array",
        max_episode_steps: int | None = None,
        camera: dict | str | None = None,
        renderer: str = "auto",
        version: int = VERSION,
        env_kwargs: Mapping[str, Any] | None = None,
        cameras: Mapping[str, dict | str | None] | None = None,
    ) -> None:
        check_truth(
            task=task,
            action_repeat=action_repeat,
            render_mode=render_mode,
            renderer=renderer,
            version=version,
        )
        height, width = frame_sides(frame_size)
        action_repeat, version = int(action_repeat), int(version)
        _check_options(observation, render_mode, version)
        allow_import(task)
        arguments = checked_kwargs(plain(env_kwargs))
        self._simulator = open_task(task, arguments)
        eyes = {
            name: read_camera(asked, self._simulator.model, width / height)
            if asked is not None and asked != {}
            else _chosen(task, arguments, self._simulator.model, width / height)
            for name, asked in _cameras(plain(camera), plain(cameras)).items()
        }
        limit = checked_limit(max_episode_steps)
        self._endless = limit == NO_LIMIT
        if limit in (None, NO_LIMIT):
            limit = -(-self._simulator.max_steps // action_repeat)
        self.twin = Twin(
            id=task,
            env_kwargs=arguments,
            renderer=backend.resolve(renderer),
            cameras={name: eye.to_json() for name, eye in eyes.items()},
            state_size=self._simulator.state_size,
            version=version,
        )
        self.task = Task(
            id=task,
            views=tuple(View(name, height, width) for name in eyes),
            action_low=tuple(float(value) for value in self._simulator.action_low),
            action_high=tuple(float(value) for value in self._simulator.action_high),
            action_repeat=action_repeat,
            dt_s=self._simulator.dt_s * action_repeat,
            max_episode_steps=limit,
            signals=logged_signals(self._simulator.state_size)
            | ({} if self._simulator.success is None else {"success": SUCCESS}),
            twin=self.twin,
        )
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": max(1, round(1 / self.task.dt_s))}
        self.action_space = gym.spaces.Box(self._simulator.action_low, self._simulator.action_high, dtype=np.float32)
        self._shown = Observation.parse(observation)
        self.observation_space = self._shown.space(self.task, (), {"state": self._simulator.state_size})
        self._drawing = Drawing(self.task, eyes)
        self._state: np.ndarray | None = None
        """The state where it is known; after ``set_physics`` it is asked for when it is needed."""
        self._elapsed: int | None = None
        """Steps since the last reset; None before the first."""

    @classmethod
    def from_task(cls, task: Task, **kwargs: Any) -> "MujocoEnv":
        """The environment that a saved task describes: the same camera, frames, action repeat and time limit.

        Raises:
            TaskError: the task has no twin, this machine or this version of procosm cannot make the same frames, or the
                task's module would have to be imported and the user has not allowed it.
        """
        settings = settings_of(task)
        if {"camera", "cameras"} & set(kwargs):
            settings = {name: value for name, value in settings.items() if name not in ("camera", "cameras")}
        env = cls(**{**settings, **kwargs})
        env.task = replace(env.task, id=task.id)  # what a log is of may have another name than what simulates it
        if kwargs.get("max_episode_steps") == NO_LIMIT:
            env.task = replace(env.task, max_episode_steps=task.max_episode_steps)
        return env

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Start an episode; ``options={"physics": array}`` starts it in that physics state, ``{"instruction": text}``
        asks a task that takes one for a goal in words, which ``info["instruction"]`` says.

        Raises:
            TaskError: an unknown option, a physics state of another size, or a task that cannot be observed there.
        """
        chosen, seed = checked_options(options, ("physics", "instruction")), checked_seed(seed)
        super().reset(seed=seed)
        self._elapsed = 0
        self._state = self._simulator.reset(seed, chosen.get("instruction"))
        if chosen.get("physics") is not None:
            self.set_physics(chosen["physics"])
        return self._observe(), self._info()

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict]:
        """Take ``action`` for ``action_repeat`` control steps, or until the task ends or cuts itself off.

        Raises:
            TaskError: before the first reset, an action of another shape, or with values that are not finite.
        """
        if self._elapsed is None:
            raise TaskError("no episode has begun: call reset() before step()")
        action = usable_actions(action, self.action_space)
        total, terminated, truncated = 0.0, False, False
        for _ in range(self.task.action_repeat):
            self._state, reward, terminated, truncated = self._simulator.step(action)
            total += reward
            if terminated or truncated:
                break
        self._elapsed += 1
        truncated = truncated or (self._elapsed >= self.task.max_episode_steps and not self._endless)
        return self._observe(), total, terminated, truncated, self._info()

    def render(self) -> np.ndarray | None:
        """(H, W, 3) uint8: the frame of this moment, views side by side; None without ``render_mode="rgb_array"``."""
        return None if self.render_mode is None else self._drawing.draw(self._simulator)

    @property
    def simulator(self) -> Any:
        """The task underneath (``procosm.envs.truth.tasks.Simulator``): its model, data and control steps."""
        return self._simulator

    def physics(self) -> np.ndarray:
        """float64 (n,), MuJoCo's full physics state (``mjSTATE_FULLPHYSICS``) as it is now."""
        model, data = self._simulator.model, self._simulator.data
        physics = np.empty(mujoco.mj_stateSize(model, PHYSICS))
        mujoco.mj_getState(model, data, physics, PHYSICS)
        return physics

    def set_physics(self, physics: np.ndarray) -> None:
        """Put the simulator into a full physics state, float64 (n,), in the middle of an episode.

        Raises:
            TaskError: a state of another size, or one with values that are not finite.
        """
        model, data = self._simulator.model, self._simulator.data
        physics = numbers(physics, "a physics state").astype(np.float64)
        size = mujoco.mj_stateSize(model, PHYSICS)
        if physics.shape != (size,) or not (np.abs(physics) <= mujoco.mjMAXVAL).all():
            raise TaskError(
                f"a physics state of {self.task.id} is {size} finite numbers up to {mujoco.mjMAXVAL:g}, not "
                f"{physics.shape}: take info['physics']"
            )
        mujoco.mj_setState(model, data, physics, PHYSICS)
        mujoco.mj_forward(model, data)
        self._state = None

    def close(self) -> None:
        """Free the renderers' contexts; the next frame makes new ones."""
        self._drawing.close()

    def _observe(self) -> Any:
        return self._shown.show(
            {"pixels": lambda: pixels_of(self.task, self._drawing.draw(self._simulator)), "state": self._read_state}
        )

    def _info(self) -> dict:
        told: dict[str, Any] = {"instruction": self._simulator.instruction} if self._simulator.instruction else {}
        if self._simulator.success is not None:
            told["success"] = self._simulator.success
        return {"state": self._read_state(), "physics": self.physics(), **told}

    def _read_state(self) -> np.ndarray:
        if self._state is None:
            self._state = self._simulator.state()
        return self._state.copy()


def settings_of(task: Task) -> dict[str, Any]:
    """The keywords of :class:`MujocoEnv` that make the twin of a saved task.

    Raises:
        TaskError: it has none, or the twin's module would have to be imported and the user has not allowed it.
    """
    twin = task.twin
    if twin is None:
        raise TaskError(
            f"{task.id} has no twin in MuJoCo: its log does not say what would simulate it, so nothing can be judged "
            "there. Dream in Procosm/World-v0, or name a twin in the dataset's task.json"
        )
    check_import(twin.id)
    sizes = {(view.height, view.width) for view in task.views}
    if len(sizes) > 1:
        raise TaskError(f"the views of {task.id} have the sizes {sorted(sizes)}, and a twin shows all in one size")
    ((height, width),) = sizes
    named = {view.name: twin.cameras[view.name] for view in task.views}
    cameras: dict[str, Any] = {"camera": named[MAIN]} if list(named) == [MAIN] else {"cameras": named}
    return {
        "task": twin.id,
        "frame_size": height if height == width else [height, width],
        "action_repeat": task.action_repeat,
        "max_episode_steps": task.max_episode_steps,
        **cameras,
        "renderer": twin.renderer,
        "version": twin.version,
        "env_kwargs": twin.env_kwargs,
    }


class _Cameras(TypedDict):
    """One or several, by names that begin with a letter."""

    cameras: Annotated[dict[Name, dict[str, Any] | str | None], Field(min_length=1, max_length=16)]


def _chosen(
    task: str, arguments: Mapping[str, Any] | None, model: mujoco.MjModel, aspect: float
) -> Camera | ModelCamera:
    """The eye of a task for which none is asked: chosen by what moves, or where nothing does, the model's only one."""
    try:
        return choose_camera(task, arguments, aspect)
    except TaskError:
        if model.ncam != 1:
            raise
        return read_camera(model.camera(0).name, model, aspect)


def _cameras(camera: dict | str | None, cameras: object) -> dict[str, dict | str | None]:
    """What is asked for of each view, by its name.

    Raises:
        TaskError: both ``camera`` and ``cameras`` are given, or names that no view can have.
    """
    if cameras is None:
        return {MAIN: camera}
    if camera is not None:
        raise TaskError("camera and cameras are given: name all of them in cameras")
    check_arguments(_Cameras, {"cameras": cameras}, TaskError)
    return dict(cameras)  # type: ignore[call-overload]


def _check_options(observation: object, render_mode: str | None, version: int) -> None:
    listed = isinstance(observation, Sequence) and all(isinstance(kind, str) for kind in observation)
    kinds = (observation,) if isinstance(observation, str) else tuple(observation) if listed else ()  # type: ignore[arg-type]
    if not kinds or len(set(kinds)) != len(kinds) or not set(kinds) <= {"pixels", "state"}:
        raise TaskError(
            f"observation {observation!r} is not one a truth env has: give 'pixels', 'state' or ('pixels', 'state'); "
            "'latent' needs checkpoint=PATH, whose tokenizer makes it"
        )
    if render_mode not in (None, "rgb_array"):
        raise TaskError(
            f"render_mode {render_mode!r} is none that a truth env has: give 'rgb_array' or None; gym.make also "
            "takes 'rgb_array_list' and 'human'"
        )
    if version not in MULTISAMPLES:
        raise TaskError(
            f"frames of version {version} are asked for, and this procosm makes versions 1 to {VERSION}: "
            "collect and train again, or install the procosm that made the checkpoint"
        )
