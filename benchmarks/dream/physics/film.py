"""A scene seen by four cameras that stand still: frames, and which object every pixel of them belongs to.

Axis letters: v camera, t frame, k object or colour, h w pixels.
"""

from dataclasses import dataclass

import numpy as np

from procosm.benchmarks.dream.geometry.epipolar import Eye
from procosm.benchmarks.dream.physics.scenarios import SCENARIOS, Scenario
from procosm.benchmarks.dream.physics.stage import PALETTE, TIMESTEP_S, Scene
from procosm.envs.truth.backend import RENDERER, mujoco
from procosm.envs.truth.camera import Camera, axes
from procosm.envs.truth.raycast import RaycastRenderer
from procosm.envs.truth.render import GLRenderer
from procosm.world_model.errors import TaskError

FRAME_SIZE, FRAMES, DT_S = 64, 60, 0.02
DIRECTIONS = ((90.0, -12.0), (55.0, -25.0), (125.0, -25.0), (90.0, -50.0))
"""Azimuth and elevation of each camera, degrees."""
FIELD_DEGREES, MARGIN, SQUEEZE = 25.0, 1.04, 1.6
STATE_SIZE = 4 * len(PALETTE)
AXIS_M = 0.3


@dataclass(frozen=True)
class Film:
    """One scene from all four sides.

    Attributes:
        frames: (v, t, h, w, 3) uint8.
        classes: (v, t, h, w) uint8, 1 + the place in ``PALETTE`` of the object seen there, 0 for none; empty where
            they were not asked for.
        states: (v, t, s) float32: of each colour the picture coordinates of its object's middle and of a point .3 m
            along its x axis less those of the middle, in half widths of the picture; zeros where no object has it.
        physics: (t, n) float64, MuJoCo's full physics states.
    """

    frames: np.ndarray
    classes: np.ndarray
    states: np.ndarray
    physics: np.ndarray


def cameras(scenario: Scenario) -> list[Camera]:
    """Four cameras that hold the scenario's box in view, and no more than it."""
    low, high = np.array(scenario.low), np.array(scenario.high)
    corners = np.stack(np.meshgrid(*zip(low, high, strict=True), indexing="ij"), axis=-1).reshape(8, 3)
    return [_camera(corners, *direction) for direction in DIRECTIONS]


def _camera(corners: np.ndarray, azimuth: float, elevation: float) -> Camera:
    basis = np.stack(axes(azimuth, elevation))  # forward, right, up
    seen = corners @ basis.T
    middle = (seen.min(axis=0) + seen.max(axis=0)) / 2
    apart = seen - middle
    distance = np.abs(apart[:, 1:]).max() / np.tan(np.radians(FIELD_DEGREES / 2))
    # What stands nearer than the middle looks larger. A wide or high view is squeezed into the square, within limits.
    near = distance / (distance + apart[:, :1])
    size = 2 * MARGIN * (np.abs(apart[:, 1:]) * near).max(axis=0)
    width, height = np.maximum(size, size[::-1] / SQUEEZE)
    x, y, z = map(float, middle @ basis)
    return Camera((x, y, z), azimuth, elevation, float(distance), float(width), float(height), "", "", 0.0)


def scene(name: str, seed: tuple[int, ...]) -> Scene:
    """A scenario's scene with the parameters of this seed.

    Raises:
        TaskError: no scenario has this name.
    """
    if name not in SCENARIOS:
        raise TaskError(f"no scenario is called {name!r}: choose among {', '.join(SCENARIOS)}")
    return SCENARIOS[name].make(np.random.default_rng(seed))


def film(name: str, seed: tuple[int, ...], frames: int = FRAMES, masks: bool = False) -> Film:
    """Let a scene run and take pictures of it, one every ``DT_S`` from its first moment.

    Raises:
        TaskError: no scenario has this name.
    """
    played = scene(name, seed)
    data, eyes = played.begin(), cameras(SCENARIOS[name])
    kind = RaycastRenderer if RENDERER == "raycast" else GLRenderer
    renderer = kind(played.model, FRAME_SIZE, FRAME_SIZE, eyes[0])
    poses = [eye.pose(played.model, data) for eye in eyes]
    seen = [Eye.of(pose, FRAME_SIZE, FRAME_SIZE) for pose in poses]
    spec = mujoco.mjtState.mjSTATE_FULLPHYSICS
    physics = np.empty((frames, mujoco.mj_stateSize(played.model, spec)))
    pictures, classes, states = [], [], []
    for t in range(frames):
        if t:
            mujoco.mj_step(played.model, data, round(DT_S / TIMESTEP_S))
            mujoco.mj_forward(played.model, data)  # positions as they are now, not half a step before
        mujoco.mj_getState(played.model, data, physics[t], spec)
        pictures.append([renderer.draw(data, pose) for pose in poses])
        classes.append([_classes(renderer.geoms(data, pose), played) for pose in poses] if masks else [])
        states.append([_state(played, data, eye) for eye in seen])
    renderer.close()
    by_view = [np.stack(each).swapaxes(0, 1) for each in (pictures, classes, states)]
    return Film(by_view[0], by_view[1], by_view[2], physics)


def _classes(geoms: np.ndarray, played: Scene) -> np.ndarray:
    """uint8 (h, w): the object that holds most of a pixel's 2 × 2 samples, none where fewer than two agree."""
    of_geom = np.append(played.classes(), 0)  # geom −1 is the empty sky
    samples = of_geom[geoms].reshape(FRAME_SIZE, 2, FRAME_SIZE, 2)
    votes = np.stack([(samples == k).sum(axis=(1, 3)) for k in range(1 + len(PALETTE))])
    votes[0] = np.maximum(votes[0], 1)
    return votes.argmax(axis=0).astype(np.uint8)


def _state(played: Scene, data: mujoco.MjData, eye: Eye) -> np.ndarray:
    """(s,) float32; see :class:`Film`."""
    state = np.zeros((len(PALETTE), 4), np.float32)
    colours = played.classes()[played.model.body_geomadr[played.objects]] - 1
    geoms = played.model.body_geomadr[played.objects]
    middle = data.geom_xpos[geoms]
    tip = middle + AXIS_M * data.xmat[played.objects].reshape(-1, 3, 3)[:, :, 0]
    here, there = (eye.project(points)[0] / (FRAME_SIZE / 2) for points in (middle, tip))
    state[colours] = np.hstack([here - 1.0, there - here])
    return state.ravel()
