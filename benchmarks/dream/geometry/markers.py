"""Round markers of known colours: where a camera truly sees their middles, and where a picture shows them.

A marker is looked for by its hue alone, so in dreams as in MuJoCo's pictures. Whether it can be seen whole is asked of
MuJoCo's rays and not of a picture: the floor of real pictures is of the same markers as everything beside it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import label

from procosm.benchmarks.dream.geometry.epipolar import Eye
from procosm.envs.truth.backend import mujoco

ALIKE = 0.9
"""Least cosine between the hue of a pixel and that of a marker."""
FAINTEST, LEAST_PX = 0.08, 3.0
"""Chroma (of 1) below which a pixel has no hue; pixels that a marker must fill to count as found."""
RIM = 8
"""Points of a marker's outline that must be seen for all of it to be seen."""


@dataclass(frozen=True)
class Marker:
    """A sphere of the model: the number of its geom, and its colour (3,), 0 to 1."""

    geom: int
    colour: tuple[float, float, float]


def markers(model: mujoco.MjModel, bodies: Mapping[str, tuple[float, float, float]]) -> dict[str, Marker]:
    """The first sphere of each body, by the body's name, of its given colour.

    Raises:
        ValueError: a body without a sphere.
    """
    found = {}
    for name, colour in bodies.items():
        body = model.body(name)
        geoms = range(body.geomadr[0], body.geomadr[0] + body.geomnum[0])
        spheres = [geom for geom in geoms if model.geom_type[geom] == mujoco.mjtGeom.mjGEOM_SPHERE]
        if not spheres:
            raise ValueError(f"body {name!r} has no sphere")
        found[name] = Marker(spheres[0], colour)
    return found


def find(picture: np.ndarray, colour: tuple[float, float, float]) -> np.ndarray | None:
    """(2,) pixels: the middle of the largest patch of a hue in a picture (H, W, 3) uint8.

    Pixels at its edge count by how much of them it fills; how it is lit does not count.

    Returns:
        None where there is no such patch, or where the picture's border cuts it.
    """
    pixels, wanted = picture.astype(np.float64) / 255, np.array(colour) - np.mean(colour)
    chroma = pixels - pixels.mean(axis=-1, keepdims=True)
    along = chroma @ (wanted / np.linalg.norm(wanted))
    like = (along > FAINTEST) & (along > ALIKE * np.linalg.norm(chroma, axis=-1))
    patches, count = label(like)
    if not count:
        return None
    sizes = np.bincount(patches.ravel(), weights=np.where(like, along, 0.0).ravel())
    patch = patches == sizes[1:].argmax() + 1
    filled = np.where(patch, np.minimum(along / (0.5 * along[patch].max()), 1.0), 0.0)
    cut = patch[0].any() or patch[-1].any() or patch[:, 0].any() or patch[:, -1].any()
    if cut or filled.sum() < LEAST_PX:
        return None
    rows, columns = np.indices(filled.shape) + 0.5
    return np.array([(filled * columns).sum(), (filled * rows).sum()]) / filled.sum()


def true_place(
    model: mujoco.MjModel, data: mujoco.MjData, marker: Marker, eye: Eye, height: int, width: int
) -> np.ndarray | None:
    """(2,) pixels of a marker's middle; None where it is not seen whole: hidden, or cut by the border."""
    middle, radius = data.geom_xpos[marker.geom], model.geom_size[marker.geom, 0]
    away = middle - eye.position
    distance = np.linalg.norm(away)
    # The outline is the circle in which lines from the eye touch the sphere.
    across = np.cross(away, eye.rotation[1])
    across /= np.linalg.norm(across)
    upward = np.cross(across, away) / distance
    angle = 2 * np.pi * np.arange(RIM) / RIM
    rim = (
        radius
        * np.sqrt(1 - (radius / distance) ** 2)
        * (np.cos(angle)[:, None] * across + np.sin(angle)[:, None] * upward)
    )
    outline = middle - away * (radius / distance) ** 2 + rim
    places, depth = eye.project(np.vstack([middle, outline]))
    inside = (places > 1).all() and (places < [width - 1, height - 1]).all() and (depth > 0).all()
    if not inside:
        return None
    for point in np.vstack([middle, middle + 0.9 * (outline - middle)]):
        if _hit(model, data, eye.position, point) != marker.geom:
            return None
    return places[0]


def _hit(model: mujoco.MjModel, data: mujoco.MjData, position: np.ndarray, point: np.ndarray) -> int:
    """Number of the geom that is first met on the way from a position to a point and on; -1 for none."""
    found = np.zeros(1, np.int32)
    mujoco.mj_ray(model, data, position, point - position, None, 1, -1, found, None)
    return int(found[0])
