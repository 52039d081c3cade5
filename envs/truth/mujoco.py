"""MujocoEnv: any MuJoCo task seen through a camera. It is the truth that every dream is judged by."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np

from procosm.envs.dreams.arguments import check_truth, numbers, usable_actions
from procosm.envs.dreams.observe import checked_options, checked_seed
from procosm.envs.dreams.spec import NO_LIMIT, PortableSpec, checked_limit
from procosm.envs.truth import backend
from procosm.envs.truth.backend import mujoco
from procosm.envs.truth.camera import Camera, choose_camera
from procosm.envs.truth.model_camera import ModelCamera, read_camera
from procosm.envs.truth.names import allow_import, check_import
from procosm.envs.truth.raycast import RaycastRenderer
from procosm.envs.truth.render import MULTISAMPLES, VERSION, GLRenderer
from procosm.envs.truth.tasks import checked_kwargs, open_task
from procosm.world_model.data.task import MAIN, Task, Twin, View, logged_signals
from procosm.world_model.errors import TaskError

PHYSICS = int(mujoco.mjtState.mjSTATE_FULLPHYSICS)


class MujocoEnv(PortableSpec, gym.Env):
    """A MuJoCo task with pixels, its true state, or both, as the observation.

    Rewards, terminations and states are exactly the task's own. A frame is a function of the physics state alone.
    Actions outside the bounds are clipped to them before the task sees them, so a task's control cost is that of the
    clipped action. ``info`` holds ``state`` (float32 (s,), the task's own observation vector) and ``physics``
    (float64, MuJoCo's full physics state), which ``reset(options={"physics": ...})`` takes back: what a task keeps
    outside it (dm_control reacher's target is part of the model) comes from the seed.

    Args:
        task: a Gymnasium id such as ``Reacher-v5`` or ``module:Mine-v0``, or ``dm_control/<domain>-<task>``.
        frame_size: height and width of a frame, pixels.
        action_repeat: control steps of the task for each step here; rewards are summed.
        observation: ``pixels``, ``state``, or a tuple of both, which gives a dict.
        render_mode: ``rgb_array`` or None.
        max_episode_steps: steps here before an episode is truncated; None takes the task's own limit, -1 none.
        camera: where the eye stands: the name of a camera in the model, a pose (``lookat``, ``azimuth``, ``elevation``,
            ``distance``; ``procosm.envs.truth.camera.Camera``) or as in a saved task; None chooses one.
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
        frame_size: int = 64,
        action_repeat: int = 1,
        observation: str | Sequence[str] = "pixels",
        render_mode: str | None = "rgb_array",
        max_episode_steps: int | None = None,
        camera: dict | str | None = None,
        renderer: str = "auto",
        version: int = VERSION,
        env_kwargs: Mapping[str, Any] | None = None,
    ) -> None:
        check_truth(
            task=task,
            frame_size=frame_size,
            action_repeat=action_repeat,
            render_mode=render_mode,
            renderer=renderer,
            version=version,
        )
        frame_size, action_repeat, version = int(frame_size), int(action_repeat), int(version)
        _check_options(observation, render_mode, version)
        allow_import(task)
        arguments = checked_kwargs(env_kwargs)
        self._simulator = open_task(task, arguments)
        if camera is None or (isinstance(camera, dict) and not camera):
            self._camera: Camera | ModelCamera = choose_camera(task, arguments)
        else:
            self._camera = read_camera(camera, self._simulator.model)
        limit = checked_limit(max_episode_steps)
        self._endless = limit == NO_LIMIT
        if limit in (None, NO_LIMIT):
            limit = -(-self._simulator.max_steps // action_repeat)
        self.twin = Twin(
            id=task,
            env_kwargs=arguments,
            renderer=backend.resolve(renderer),
            cameras={MAIN: self._camera.to_json()},
            state_size=self._simulator.state_size,
            version=version,
        )
        self.task = Task(
            id=task,
            views=(View(MAIN, frame_size, frame_size),),
            action_low=tuple(float(value) for value in self._simulator.action_low),
            action_high=tuple(float(value) for value in self._simulator.action_high),
            action_repeat=action_repeat,
            dt_s=self._simulator.dt_s * action_repeat,
            max_episode_steps=limit,
            signals=logged_signals(self._simulator.state_size),
            twin=self.twin,
        )
        self.render_mode = render_mode
        self.metadata = {**self.metadata, "render_fps": max(1, round(1 / self.task.dt_s))}
        self.action_space = gym.spaces.Box(self._simulator.action_low, self._simulator.action_high, dtype=np.float32)
        self._shown = observation
        every: dict[str, gym.spaces.Space] = {
            "pixels": gym.spaces.Box(0, 255, self.task.frame_shape, np.uint8),
            "state": gym.spaces.Box(-np.inf, np.inf, (self._simulator.state_size,), np.float32),
        }
        self.observation_space = (
            every[observation]
            if isinstance(observation, str)
            else gym.spaces.Dict({kind: every[kind] for kind in observation})
        )
        self._view: mujoco.MjData | None = None
        self._renderer: GLRenderer | RaycastRenderer | None = None
        self._drawn_model: mujoco.MjModel | None = None
        self._saw_something = False
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
        env = cls(**{**settings_of(task), **kwargs})
        if kwargs.get("max_episode_steps") == NO_LIMIT:
            env.task = replace(env.task, max_episode_steps=task.max_episode_steps)
        return env

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[Any, dict]:
        """Start an episode; ``options={"physics": array}`` starts it in that physics state.

        Raises:
            TaskError: an unknown option, a physics state of another size, or a task that cannot be observed there.
        """
        chosen, seed = checked_options(options, ("physics",)), checked_seed(seed)
        super().reset(seed=seed)
        self._elapsed = 0
        self._state = self._simulator.reset(seed)
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
        """uint8 (frame_size, frame_size, 3): the frame of this moment; None without ``render_mode="rgb_array"``."""
        return None if self.render_mode is None else self._draw()

    def _draw(self) -> np.ndarray:
        simulator = self._simulator
        model = simulator.model
        if self._renderer is None or self._view is None or self._drawn_model is not model:
            self.close()
            backend.resolve(self.twin.renderer)  # a copy may have come from a process that draws otherwise
            self._renderer = (
                RaycastRenderer(model, self.task.height, self._camera)
                if self.twin.renderer == "raycast"
                else GLRenderer(model, self.task.height, self._camera, self.twin.version)
            )
            self._view, self._drawn_model = mujoco.MjData(model), model
        # Positions in the task's own data lag half a step behind its qpos, and tasks compute rewards from them:
        # a second MjData shows where things are now and leaves the task alone.
        view = self._view
        view.qpos[:] = simulator.data.qpos
        view.mocap_pos[:] = simulator.data.mocap_pos
        view.mocap_quat[:] = simulator.data.mocap_quat
        mujoco.mj_kinematics(model, view)
        mujoco.mj_comPos(model, view)
        mujoco.mj_camlight(model, view)
        mujoco.mj_tendon(model, view)
        frame = self._renderer.draw(view, self._camera.pose(model, view))
        if not self._saw_something and frame.min() == frame.max():
            raise TaskError(
                f"the camera of {self.task.id} sees nothing: its first frame is {frame.max()} all over. Give another "
                f"camera than {self.twin.cameras}"
            )
        self._saw_something = True
        return frame

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
        """Free the renderer's context; the next frame makes a new one."""
        if self._renderer is not None:
            self._renderer.close()
        self._renderer = self._view = self._drawn_model = None

    def __getstate__(self) -> dict[str, Any]:
        # A copy has a renderer of its own: contexts belong to the process and the environment that made them.
        return {**vars(self), "_renderer": None, "_view": None, "_drawn_model": None}

    def _observe(self) -> Any:
        sources = {"pixels": self._draw, "state": self._read_state}
        if isinstance(self._shown, str):
            return sources[self._shown]()
        return {kind: sources[kind]() for kind in self._shown}

    def _info(self) -> dict:
        return {"state": self._read_state(), "physics": self.physics()}

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
    return {
        "task": twin.id,
        "frame_size": task.height,
        "action_repeat": task.action_repeat,
        "max_episode_steps": task.max_episode_steps,
        "camera": twin.cameras[MAIN],
        "renderer": twin.renderer,
        "version": twin.version,
        "env_kwargs": twin.env_kwargs,
    }


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
