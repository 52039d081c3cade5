"""A camera that the task's own model has, and what a user may say to mean a camera: a name, a pose, or nothing."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from procosm.envs.truth.backend import mujoco
from procosm.envs.truth.camera import Camera, Pose
from procosm.world_model.data.task import MAIN
from procosm.world_model.errors import TaskError

NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*)=")
"""What stands before the camera of a view that is given a name."""


@dataclass(frozen=True)
class ModelCamera:
    """A camera of the model, wherever the model takes it; the picture is ``fovy`` high.

    Attributes:
        name: the camera's in the model.
        follow: "xy" where it travels, so that floors are kept under it; "" where it stands still.
        aspect: the picture's width over its height.
    """

    name: str
    follow: str = ""
    aspect: float = 1.0

    # Its view is not squeezed and no floor is cut for it (procosm.envs.truth.render).
    azimuth = 90.0
    elevation = 0.0
    runway = 0.0

    @classmethod
    def find(cls, name: str, model: mujoco.MjModel, aspect: float = 1.0) -> "ModelCamera":
        """The camera called ``name``.

        Raises:
            TaskError: the model has none of that name.
        """
        number = _number(name, model)
        still = model.cam_bodyid[number] == 0 and int(model.cam_mode[number]) == int(
            mujoco.mjtCamLight.mjCAMLIGHT_FIXED
        )
        return cls(name, "" if still else "xy", aspect)

    def to_json(self) -> dict:
        """Plain JSON values."""
        return {"name": self.name}

    def pose(self, model: mujoco.MjModel, data: mujoco.MjData) -> Pose:
        """Where the eye is for ``data``.

        Raises:
            TaskError: the model has no camera of that name.
        """
        number = _number(self.name, model)
        position, turn = data.cam_xpos[number].copy(), data.cam_xmat[number].reshape(3, 3)
        tangent = float(np.tan(np.radians(model.cam_fovy[number]) / 2))
        extent, near_far = model.stat.extent, model.vis.map
        return Pose(
            position=position,
            forward=-turn[:, 2],
            up=turn[:, 1].copy(),
            lookat=position,
            tan_width=tangent * self.aspect,
            tan_height=tangent,
            near=near_far.znear * extent,
            far=near_far.zfar * extent,
        )


def read_camera(camera: dict | str, model: mujoco.MjModel, aspect: float = 1.0) -> Camera | ModelCamera:
    """The camera that a user or a saved task means: a name in the model, or a pose.

    Args:
        aspect: of its picture, width over height; a saved pose knows its own.

    Raises:
        TaskError: no such camera, or no pose.
    """
    if isinstance(camera, str):
        return ModelCamera.find(camera, model, aspect)
    if isinstance(camera, dict) and set(camera) == {"name"}:
        return ModelCamera.find(camera["name"], model, aspect)
    return Camera.from_json(camera, aspect)


def parse_cameras(texts: Sequence[str]) -> dict[str, dict[str, Any] | str | None]:
    """What each ``--camera`` says, by the name of its view: CAMERA or VIEW=CAMERA; none given is one to be chosen.

    Raises:
        TaskError: JSON that cannot be read, or two views of one name.
    """
    found: dict[str, dict[str, Any] | str | None] = {}
    for text in texts or ("",):
        named = NAMED.match(text)
        camera = parse_camera(text[named.end() :] if named else text)
        one = MAIN if len(texts) < 2 or not isinstance(camera, str) else camera
        view = named.group(1) if named else one
        if view in found:
            raise TaskError(f"--camera: two views are called {view!r}; give each a name, such as --camera wrist=CAMERA")
        found[view] = camera
    return found


def parse_camera(text: str) -> dict[str, Any] | str | None:
    """A camera's name, a pose as a JSON object, or "" for one to be chosen.

    Raises:
        TaskError: JSON that cannot be read.
    """
    if not text.lstrip().startswith("{"):
        return text or None
    try:
        return json.loads(text)
    except ValueError as error:
        raise TaskError(f"--camera {text!r} is neither a name nor JSON ({error})") from error


def _number(name: object, model: mujoco.MjModel) -> int:
    known = [model.camera(number).name for number in range(model.ncam)]
    if name not in known:
        raise TaskError(f"this task's model has no camera {name!r}: it has {', '.join(filter(None, known)) or 'none'}")
    return known.index(name)
