"""One view or two of the same physics: which part of the picture each fills, and the frames they make together."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from procosm.benchmarks.dream.geometry.epipolar import Eye
from procosm.envs.truth.camera import Camera
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.task import MAIN, Task

TURN_DEGREES = 35.0


@dataclass(frozen=True)
class View:
    """One camera and the columns of the picture that are its own."""

    env: MujocoEnv
    camera: Camera
    columns: slice

    def eye(self) -> Eye:
        """The exact eye of the physics as it is now."""
        simulator = self.env.simulator
        width = self.columns.stop - self.columns.start
        return Eye.of(self.camera.pose(simulator.model, simulator.data), self.env.task.height, width)

    def part(self, frame: np.ndarray) -> np.ndarray:
        """(H, w, 3): its columns of a picture."""
        return frame[:, self.columns]


def one_view(task: Task) -> list[View]:
    """The task's own camera, the whole picture."""
    env = MujocoEnv.from_task(task)
    return [View(env, Camera.from_json(env.twin.cameras[MAIN]), slice(0, task.width))]


def two_views(task: Task) -> list[View]:
    """The task's own camera on the left and a second one on the right, each squeezed into half the width."""
    first, half = own_camera(task), task.width // 2
    cameras = (first, second_camera(first))
    envs = [MujocoEnv.from_task(task, camera=camera.to_json()) for camera in cameras]
    places = (slice(0, half), slice(half, task.width))
    return [View(*each) for each in zip(envs, cameras, places, strict=True)]


def second_camera(first: Camera) -> Camera:
    """The same point seen from 35° elsewhere: round the vertical, or from less steep where the first looks down."""
    if abs(first.elevation) > 60:
        return replace(first, elevation=first.elevation + TURN_DEGREES)
    return replace(first, azimuth=first.azimuth + TURN_DEGREES)


def two_view_task(task: Task) -> Task:
    """The task whose frames hold both views; its camera says so, and no truth env mistakes it for one it can make."""
    assert task.twin is not None  # it has a camera
    cameras = [camera.to_json() for camera in (own_camera(task), second_camera(own_camera(task)))]
    return replace(task, twin=replace(task.twin, cameras={MAIN: {"views": cameras}}))


def own_camera(task: Task) -> Camera:
    """The one camera that a task's frames were made with."""
    assert task.twin is not None  # it has a camera
    return Camera.from_json(task.twin.cameras[MAIN])


def picture(views: list[View], physics: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: what the views together show of a full physics state."""
    parts = []
    for view in views:
        view.env.set_physics(physics)
        frame = view.env.render()
        assert frame is not None  # the views render
        squeeze = frame.shape[1] // (view.columns.stop - view.columns.start)
        parts.append(frame.reshape(len(frame), -1, squeeze, 3).mean(axis=2).round().astype(np.uint8))
    return np.concatenate(parts, axis=1)


def seen_again(views: list[View], logged: Iterator[tuple[Episode, np.ndarray]]) -> Iterator[tuple[Episode, np.ndarray]]:
    """Episodes with their physics, as these views show them."""
    for episode, physics in logged:
        yield replace(episode, frames=np.stack([picture(views, each) for each in physics])), physics
