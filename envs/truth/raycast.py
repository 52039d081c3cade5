"""Frames without OpenGL: one ray per pixel, shaded by the angle to the light. Slow, but it needs nothing installed.

Its pixels differ from OpenGL's, so the two never mix in one dataset. Sites and textures are not drawn; under a camera
that travels, floors get a checker pattern so that speed shows.
"""

import numpy as np

from procosm.envs.truth.backend import mujoco
from procosm.envs.truth.camera import Camera, Pose
from procosm.envs.truth.model_camera import ModelCamera

LIGHT = np.array([-0.3, -0.5, 0.81])
AMBIENT = 0.35
FLOOR = np.array([[0.55, 0.58, 0.62], [0.30, 0.33, 0.38]])
CHECKER_M = 0.5


class RaycastRenderer:
    """Draws one model by casting rays.

    Every pixel gets one ray; pixels whose neighbours hit something else get 2 × 2, so that small things keep their
    exact place at a fraction of the price.

    Args:
        model: the MuJoCo model.
        height, width: of a frame, pixels.
        camera: whose poses :meth:`draw` will be given.
    """

    def __init__(self, model: mujoco.MjModel, height: int, width: int, camera: Camera | ModelCamera) -> None:
        self._runway = camera.runway
        self._checkered = bool(camera.follow)
        self._model = model
        self._size = height, width
        self._groups = np.array([1, 1, 1, 0, 0, 0], np.uint8)
        # A geom with a material keeps the default grey unless it was given a colour of its own: MuJoCo's own rule.
        rgba = model.geom_rgba[:, :3].astype(np.float64)
        painted = (model.geom_matid >= 0) & np.all(rgba == 0.5, axis=1)
        rgba[painted] = model.mat_rgba[model.geom_matid[painted], :3]
        self._colours = rgba
        self._planes = model.geom_type == int(mujoco.mjtGeom.mjGEOM_PLANE)

    def draw(self, data: mujoco.MjData, pose: Pose) -> np.ndarray:
        """uint8 (height, width, 3): what ``data`` looks like from ``pose``."""
        height, width = self._size
        down, across = _middles(height, width)
        geoms, colours = self._cast(data, pose, across.ravel(), down.ravel())
        geoms = geoms.reshape(height, width)
        edge = np.zeros((height, width), bool)
        below, beside = geoms[1:] != geoms[:-1], geoms[:, 1:] != geoms[:, :-1]
        edge[1:] |= below
        edge[:-1] |= below
        edge[:, 1:] |= beside
        edge[:, :-1] |= beside
        rows, columns = np.nonzero(edge)
        quarter = np.array([0.25, 0.75])
        down = (rows[:, None, None] + quarter[None, :, None] + np.zeros((1, 1, 2))).ravel() / height
        across = (columns[:, None, None] + np.zeros((1, 2, 1)) + quarter[None, None, :]).ravel() / width
        _, fine = self._cast(data, pose, across, down)
        image = colours.reshape(height, width, 3)
        image[edge] = fine.reshape(-1, 4, 3).mean(axis=1)
        return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)

    def geoms(self, data: mujoco.MjData, pose: Pose) -> np.ndarray:
        """(2 height, 2 width): the id of the geom seen at each sample of a frame, −1 for none."""
        height, width = self._size
        down, across = _middles(2 * height, 2 * width)
        return self._cast(data, pose, across.ravel(), down.ravel())[0].reshape(down.shape)

    def close(self) -> None:
        """Nothing to free."""

    def _cast(
        self, data: mujoco.MjData, pose: Pose, across: np.ndarray, down: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Geom ids (n,) and colours (n, 3) in 0..1 seen at picture places (n,) in 0..1, from the top left."""
        right = np.cross(pose.forward, pose.up)
        rays = pose.forward + (2 * across - 1)[:, None] * pose.tan_width * right
        rays += (1 - 2 * down)[:, None] * pose.tan_height * pose.up
        rays /= np.linalg.norm(rays, axis=1, keepdims=True)
        count = len(rays)
        geoms, distances, normals = np.full(count, -1, np.int32), np.zeros(count), np.zeros(3 * count)
        if count:
            mujoco.mj_multiRay(
                self._model,
                data,
                pose.position,
                rays.ravel(),
                self._groups,
                1,
                -1,
                geoms,
                distances,
                normals,
                count,
                pose.far,
            )
        light = AMBIENT + (1 - AMBIENT) * np.abs(normals.reshape(-1, 3) @ LIGHT)
        colours = self._colours[geoms]
        floor = (geoms >= 0) & self._planes[geoms]
        hits = pose.position + distances[:, None] * rays
        if self._runway:
            beside = np.abs((hits - pose.lookat)[:, :2] @ (pose.forward[:2] / np.linalg.norm(pose.forward[:2])))
            geoms[floor & (beside > self._runway)] = -1
        if self._checkered:
            tile = np.floor(hits[floor, :2] / CHECKER_M).astype(int).sum(axis=1) % 2
            colours[floor] = FLOOR[tile]
        colours = colours * light[:, None]
        colours[geoms < 0] = 0.0
        return geoms, colours


def _middles(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """(height, width) each: where the middle of each pixel is from the top and from the left, 0..1."""
    rows, columns = (np.arange(height) + 0.5) / height, (np.arange(width) + 0.5) / width
    down, across = np.meshgrid(rows, columns, indexing="ij")
    return down, across
