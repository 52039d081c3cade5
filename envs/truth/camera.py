"""Chooses a camera for a task nobody has seen before, from the probe's rollouts, and says where it stands each step.

The rules, the same for every task:
1. A robot whose root can travel without bound is followed, along the horizontal axes it can travel and no other, so
   that the floor's texture shows its speed and the picture its height. Any other robot gets a camera that never moves.
   Seen from the side, the floor is cut to a runway under the robot: a whole moving floor is far more to learn.
2. Motion in a plane is seen at a right angle to that plane; motion in all of space from above at a slant.
3. The view is as narrow as holds everything that moved, plus both ends of each slide that a motor drives
   (InvertedPendulum's rail). It is squeezed into the picture, one way at most twice as much as the other.
   A travelling robot gets room besides, because a trained one leaps higher and strides wider than a shaken one.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from procosm.envs.truth.backend import mujoco
from procosm.envs.truth.probe import Probe, actuated_joints, probe
from procosm.envs.truth.tasks import open_task
from procosm.world_model.data.task import CameraJson
from procosm.world_model.errors import TaskError
from procosm.world_model.schema import checked

FIELD_DEGREES = 20.0
USUAL_DEGREES = 45.0
MARGIN = 1.03
ROOM = 1.2
WIDEST = 2.0
FLAT = 0.005
TILT_DEGREES = -12.0


@dataclass(frozen=True)
class Pose:
    """Where an eye is at one moment; world axes, metres. ``tan_width``, ``tan_height``: tangents of the half angles."""

    position: np.ndarray
    forward: np.ndarray
    up: np.ndarray
    lookat: np.ndarray
    tan_width: float
    tan_height: float
    near: float
    far: float


@dataclass(frozen=True)
class Camera:
    """A camera as it is saved with a task.

    Attributes:
        lookat: the point in the middle of the picture, metres; along a followed axis it is an offset from the body.
        azimuth, elevation: degrees, as MuJoCo means them: 90, 0 looks along y; elevation -90 looks down.
        distance: from the eye to ``lookat``, metres.
        width, height: of the view at ``lookat``, metres.
        body: name of the body it follows, "" for none.
        follow: the axes along which it follows: "", "x", "y" or "xy".
        runway: how far the floor reaches before and behind ``lookat``, metres; 0 shows all of it.
    """

    lookat: tuple[float, float, float]
    azimuth: float
    elevation: float
    distance: float
    width: float
    height: float
    body: str
    follow: str
    runway: float

    @classmethod
    def from_json(cls, values: dict, aspect: float = 1.0) -> "Camera":
        """The camera that :meth:`to_json` wrote, or a user: ``lookat``, ``azimuth``, ``elevation`` and ``distance`` are
        enough, and give MuJoCo's usual view of 45 degrees that follows nothing.

        Args:
            aspect: width over height of such a view.

        Raises:
            TaskError: other keys than a camera has, or values that it cannot have.
        """
        if isinstance(values, dict) and isinstance(values.get("distance"), int | float):
            side = round(2 * values["distance"] * float(np.tan(np.radians(USUAL_DEGREES / 2))), 3)
            wide = side if aspect == 1.0 else round(aspect * side, 3)
            values = {"width": wide, "height": side, "body": "", "follow": "", "runway": 0.0, **values}
        advice = "give the name of one in the model, a pose of lookat, azimuth, elevation and distance, or leave it out"
        found = checked(CameraJson, values, "this is no camera", advice, TaskError)
        wrong = sorted({field.name for field in fields(cls)} ^ set(found))
        if wrong:
            raise TaskError(f"this is no camera: {', '.join(wrong)} missing or not of a pose; {advice}")
        return cls(**{**found, "lookat": tuple(found["lookat"])})

    def to_json(self) -> dict:
        """Plain JSON values."""
        return {**asdict(self), "lookat": list(self.lookat)}

    def pose(self, model: mujoco.MjModel, data: mujoco.MjData) -> Pose:
        """Where the eye is for ``data``.

        Raises:
            TaskError: the model has no body of that name.
        """
        lookat = np.array(self.lookat)
        if self.body:
            number = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_BODY, self.body)
            if number < 0:
                raise TaskError(f"the camera follows body {self.body!r}, which this task's model does not have")
            for axis in self.follow:
                lookat["xyz".index(axis)] += data.xpos[number]["xyz".index(axis)]
        forward, _, up = axes(self.azimuth, self.elevation)
        return Pose(
            position=lookat - self.distance * forward,
            forward=forward,
            up=up,
            lookat=lookat,
            tan_width=0.5 * self.width / self.distance,
            tan_height=0.5 * self.height / self.distance,
            near=0.2 * self.distance,
            far=40.0 * self.distance,
        )


def axes(azimuth: float, elevation: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Forward, right and up of an eye, unit vectors; angles in degrees."""
    turn, tilt = np.radians([azimuth, elevation])
    forward = np.array([np.cos(tilt) * np.cos(turn), np.cos(tilt) * np.sin(turn), np.sin(tilt)])
    right = np.array([np.sin(turn), -np.cos(turn), 0.0])
    return forward, right, np.cross(right, forward)


def choose_camera(name: str, env_kwargs: Mapping[str, Any] | None = None, aspect: float = 1.0) -> Camera:
    """The camera for the task called ``name``, made with ``env_kwargs``; always the same one for the same simulator.

    ``aspect`` is the picture's width over its height.

    Raises:
        TaskError: there is no such task, or nothing of it that a picture shows moves.
    """
    seen = probe(name, env_kwargs)
    if not seen.corners.shape[1]:
        raise TaskError(f"no camera can see task {name!r}: nothing that a picture shows moves. Give one of your own")
    simulator = open_task(name, env_kwargs)
    model = simulator.model
    azimuth, elevation = _direction(seen)
    view = _frame(_points(model, seen), azimuth, elevation, ROOM if seen.travels.any() else 1.0, aspect)
    body = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_BODY, seen.root) if seen.root >= 0 else ""
    follow = "".join(axis for axis, moves in zip("xyz", seen.travels, strict=True) if moves)
    runway = round(0.4 * view["height"], 3) if elevation == TILT_DEGREES else 0.0
    simulator.close()
    return Camera(**view, body=body or "", follow=follow if body else "", runway=runway)


def _points(model: mujoco.MjModel, seen: Probe) -> np.ndarray:
    """(n, 3) points that the view must hold, relative to the followed body."""
    corners = seen.corners - seen.origin[:, None, None]
    low, high = corners.min(axis=2), corners.max(axis=2)
    # Rare extremes of a rollout (an object flung away) do not widen the view; what is certain to be seen always does.
    rolled = ~seen.certain
    lowest = np.minimum(low[~rolled].min(axis=0), np.quantile(low[rolled], 0.005, axis=0))
    highest = np.maximum(high[~rolled].max(axis=0), np.quantile(high[rolled], 0.995, axis=0))
    # A robot that travels strides both ways, whatever way the rollouts happened to fall.
    reach = np.maximum(np.abs(lowest), np.abs(highest))
    lowest, highest = np.where(seen.travels, -reach, lowest), np.where(seen.travels, reach, highest)
    boxes = np.stack([lowest, highest])
    picks = np.stack(np.meshgrid([0, 1], [0, 1], [0, 1], indexing="ij"), -1).reshape(8, 3)
    cloud = np.concatenate([np.stack([boxes[pick[axis], :, axis] for axis in range(3)], -1) for pick in picks])
    data = mujoco.MjData(model)
    mujoco.mj_kinematics(model, data)
    for joint in actuated_joints(model):
        if int(model.jnt_type[joint]) == int(mujoco.mjtJoint.mjJNT_SLIDE) and model.jnt_limited[joint]:
            shift = model.jnt_range[joint] - data.qpos[model.jnt_qposadr[joint]]
            cloud = np.concatenate([cloud, data.xanchor[joint] + shift[:, None] * data.xaxis[joint]])
    return cloud


def _direction(seen: Probe) -> tuple[float, float]:
    """Azimuth and elevation, degrees, at a right angle to the plane of motion where there is one."""
    centres = seen.corners.mean(axis=2) - seen.origin[:, None]
    motion = centres.var(axis=0).sum(axis=0)
    share = motion / max(motion.sum(), 1e-12)
    # A robot that moves along a line only is seen from the side: y goes first.
    flat = next((axis for axis in (1, 2, 0) if share[axis] < FLAT and share[axis] <= share.min() + 1e-9), None)
    tilt = TILT_DEGREES if seen.travels.any() else 0.0
    return {0: (0.0, tilt), 1: (90.0, tilt), 2: (90.0, -90.0), None: (90.0, -35.0 if seen.travels.any() else -60.0)}[
        flat
    ]


def _frame(points: np.ndarray, azimuth: float, elevation: float, room: float, aspect: float) -> dict:
    """The narrowest view of ``points`` from that direction, ``room`` times as wide and high; numbers are rounded."""
    sides = np.array([aspect, 1.0])
    forward, right, up = axes(azimuth, elevation)
    basis = np.stack([right, up, forward])
    seen = points @ basis.T
    low, high = seen.min(axis=0), seen.max(axis=0)
    middle = 0.5 * (low + high)
    extent = np.maximum(high - low, 1e-3)
    distance = 0.5 * room * extent[:2].max() / np.tan(np.radians(FIELD_DEGREES / 2))
    # Things nearer than the middle look larger: widen until all of them are inside.
    depth = distance + seen[:, 2] - middle[2]
    widths = 2 * np.abs((seen[:, :2] - middle[:2]) / depth[:, None]).max(axis=0) * distance * MARGIN * room
    widths = widths / sides
    width, height = np.maximum(widths, widths[::-1] / WIDEST) * sides
    if room > 1 and elevation > -90:
        # The floor stays where it is: the room is overhead.
        middle = middle + np.array([0, 0.5 * (1 - 1 / room) * extent[1], 0])
    lookat = middle @ basis
    return {
        "lookat": tuple(float(round(value, 3)) for value in lookat),
        "azimuth": azimuth,
        "elevation": elevation,
        "distance": float(round(distance, 3)),
        "width": float(round(width, 3)),
        "height": float(round(height, 3)),
    }
