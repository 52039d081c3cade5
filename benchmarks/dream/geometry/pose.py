"""From where was a picture taken? Known landmarks are found in it, and the pose is solved that sees them there.

Landmarks are corners of MuJoCo's picture from a pose beside the commanded one, their places in the world what MuJoCo's
rays hit there. Each is found again in the picture in question by its patch (``landmarks.follow``), and the pose is the
one of least robust reprojection error (perspective from n points, Hartley & Zisserman 2004, §7.2 and A6.8). The same is
done with MuJoCo's own picture from the commanded pose: what that misses is the floor of the measure.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import least_squares
from scipy.spatial.transform import Rotation

from procosm.benchmarks.dream.geometry.epipolar import Eye
from procosm.benchmarks.dream.geometry.landmarks import FEWEST, follow, trackable
from procosm.envs.truth.backend import mujoco

LEAST = 6
"""Landmarks that must be found: each tells two numbers, a pose has six, and some of them may be wrong."""
SCALE_PX = 0.25
"""Reprojection errors above it count ever less than by their squares (Cauchy's loss): some corners are where one thing
ends before another, and belong to no point."""


@dataclass(frozen=True)
class Reference:
    """Landmarks of one picture of a scene.

    Attributes:
        picture: (H, W, 3) uint8. places: (n, 2), pixels in it. points: (n, 3), in the world, metres.
    """

    picture: np.ndarray
    places: np.ndarray
    points: np.ndarray

    @classmethod
    def of(cls, picture: np.ndarray, eye: Eye, model: mujoco.MjModel, data: mujoco.MjData) -> "Reference":
        """The corners of a picture that was taken from ``eye`` of what ``data`` holds."""
        height, width = picture.shape[:2]
        rows, columns = np.mgrid[0:height, 0:width]
        middles = np.stack([columns.ravel(), rows.ravel()], axis=1) + 0.5
        slope_y, slope_x = np.gradient(picture.astype(np.float64).mean(axis=-1))
        steepest = np.argsort(-(slope_x**2 + slope_y**2).ravel(), kind="stable")
        places = middles[steepest][trackable(picture, middles[steepest])]
        return cls(picture, places, points_of(places, eye, model, data))


def points_of(places: np.ndarray, eye: Eye, model: mujoco.MjModel, data: mujoco.MjData) -> np.ndarray:
    """(n, 3) world points, metres, of (n, 2) pixel places: what is nearest in the pixel about each, for a corner
    belongs to what stands in front. NaN where nothing is hit.
    """
    found = np.full((len(places), 3), np.nan)
    hit = np.zeros(1, np.int32)
    for i, place in enumerate(places):
        nearest = np.inf
        for x, y in (place + 0.5 * np.array([a, b]) for a in (-1, 0, 1) for b in (-1, 0, 1)):
            ray = eye.rotation.T @ np.linalg.solve(eye.intrinsic, [x, y, 1.0])  # of depth 1
            depth = mujoco.mj_ray(model, data, eye.position, ray, None, 1, -1, hit, None)
            nearest = min(nearest, depth if depth >= 0 else np.inf)
        if np.isfinite(nearest):
            middle = eye.rotation.T @ np.linalg.solve(eye.intrinsic, [*place, 1.0])
            found[i] = eye.position + nearest * middle
    return found


def solve(points: np.ndarray, places: np.ndarray, start: Eye) -> Eye:
    """The eye, of the intrinsics of ``start``, that sees (n, 3) points at (n, 2) pixels, looked for from ``start``."""

    def moved(motion: np.ndarray) -> Eye:
        turn = Rotation.from_rotvec(motion[:3]).as_matrix()
        return Eye(start.intrinsic, turn @ start.rotation, start.position + motion[3:])

    def errors(motion: np.ndarray) -> np.ndarray:
        seen, depth = moved(motion).project(points)
        return np.where(depth[:, None] > 1e-3, seen - places, 1e3).ravel()

    return moved(least_squares(errors, np.zeros(6), loss="cauchy", f_scale=SCALE_PX).x)


def apart(first: Eye, second: Eye) -> tuple[float, float]:
    """Degrees between two eyes' rotations, and centimetres between their positions."""
    turn = Rotation.from_matrix(first.rotation @ second.rotation.T).magnitude()
    return float(np.degrees(turn)), float(100 * np.linalg.norm(first.position - second.position))


def pose_of(picture: np.ndarray, reference: Reference, commanded: Eye) -> Eye | None:
    """The pose that a picture (H, W, 3) was taken from, looked for about a commanded one; None where too few landmarks
    are found in it.
    """
    near, depth = commanded.project(reference.points)
    height, width = picture.shape[:2]
    kept = np.isfinite(near).all(axis=1) & (depth > 0) & (near > 0).all(axis=1) & (near < [width, height]).all(axis=1)
    found, score = follow(reference.picture, reference.places[kept], picture, near[kept])
    sure = score >= FEWEST
    if sure.sum() < LEAST:
        return None
    return solve(reference.points[kept][sure], found[sure], commanded)
