"""Points of a robot that can be found again in a picture: where they are, and where they seem to be.

Landmarks are the middles of geoms and the ends of capsules, known exactly from MuJoCo. One is followed by its patch of
the last real frame: where normalised cross-correlation with a later frame, real or dreamed, peaks near the place that
MuJoCo computes. The same patch is looked for in every kind of frame, so that what turning and shading do to a patch
is in the floor of real frames as well. A peak below ``FEWEST`` counts as lost.
"""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from procosm.envs.truth.backend import mujoco

RADIUS, REACH = 3, 4
"""Pixels: half a patch is ``RADIUS``, and it is looked for up to ``REACH`` away."""
FEWEST = 0.6
CORNER = 40.0
"""Least eigenvalue of a patch's mean structure tensor, grey levels² per pixel²: below it the patch could slide along an
edge unnoticed."""
APART = 3.0


@dataclass(frozen=True)
class Landmarks:
    """Points fixed to bodies.

    Attributes:
        bodies: (n,) numbers of MuJoCo's bodies. local: (n, 3) metres, in each body's own axes.
    """

    bodies: np.ndarray
    local: np.ndarray

    def at(self, data: mujoco.MjData) -> np.ndarray:
        """(n, 3) world places in ``data``."""
        turned = np.einsum("nij,nj->ni", data.xmat[self.bodies].reshape(-1, 3, 3), self.local)
        return data.xpos[self.bodies] + turned

    def __getitem__(self, chosen: np.ndarray) -> "Landmarks":
        return Landmarks(self.bodies[chosen], self.local[chosen])


def landmarks(model: mujoco.MjModel, data: mujoco.MjData) -> Landmarks:
    """Every visible geom's middle and, of capsules and cylinders, both ends; of bodies that can move."""
    bodies, local = [], []
    long = (int(mujoco.mjtGeom.mjGEOM_CAPSULE), int(mujoco.mjtGeom.mjGEOM_CYLINDER))
    for geom in range(model.ngeom):
        body = int(model.geom_bodyid[geom])
        if model.body_weldid[body] == 0 or model.geom_rgba[geom, 3] < 0.5 or model.geom_group[geom] > 2:
            continue
        axis = data.geom_xmat[geom].reshape(3, 3)[:, 2] * model.geom_size[geom, 1]
        for share in (-1, 0, 1) if int(model.geom_type[geom]) in long else (0,):
            place = data.geom_xpos[geom] + share * axis
            bodies.append(body)
            local.append(data.xmat[body].reshape(3, 3).T @ (place - data.xpos[body]))
    return Landmarks(np.array(bodies, np.int64), np.array(local).reshape(-1, 3))


def trackable(frame: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Which of (n, 2) pixel places lie well inside ``frame`` (H, W, 3), on a corner, and apart from one another."""
    height, width = frame.shape[:2]
    slope_y, slope_x = np.gradient(frame.astype(np.float64).mean(axis=-1))
    chosen: list[int] = []
    for i, (x, y) in enumerate(places):
        inside = RADIUS + 1 <= x < width - RADIUS - 1 and RADIUS + 1 <= y < height - RADIUS - 1
        if not inside or any(np.hypot(*(places[j] - places[i])) < APART for j in chosen):
            continue
        rows, columns = (slice(int(v) - RADIUS, int(v) + RADIUS + 1) for v in (y, x))
        gx, gy = slope_x[rows, columns].ravel(), slope_y[rows, columns].ravel()
        if np.linalg.eigvalsh(np.cov(np.stack([gx, gy]), ddof=0))[0] >= CORNER:
            chosen.append(i)
    return np.array(chosen, np.int64)


def follow(
    before: np.ndarray, places: np.ndarray, frame: np.ndarray, near: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where patches of one frame are in another.

    Args:
        before, frame: (H, W, 3) uint8. places, near: (n, 2) pixels, in ``before`` and about where in ``frame``.

    Returns:
        (n, 2) pixels, to a fraction of one, and (n,) the correlation there, −1 to 1.
    """
    pad = RADIUS + REACH
    wide = [np.pad(each.astype(np.float64), ((pad, pad), (pad, pad), (0, 0)), mode="edge") for each in (before, frame)]
    found, score = np.empty((len(places), 2)), np.empty(len(places))
    for i, (place, close) in enumerate(zip(places, near, strict=True)):
        x, y = np.floor(place).astype(int) + pad
        patch = wide[0][y - RADIUS : y + RADIUS + 1, x - RADIUS : x + RADIUS + 1]
        # Whatever a wild prediction says, the search stays in the picture.
        a, b = np.clip(np.floor(close).astype(int), 0, np.array(frame.shape[1::-1]) - 1) + pad
        area = wide[1][b - pad : b + pad + 1, a - pad : a + pad + 1]
        scores = _correlation(patch, area)
        dy, dx = np.unravel_index(int(scores.argmax()), scores.shape)
        score[i] = scores[dy, dx]
        peak = np.array([dx + _vertex(scores[dy, :], int(dx)), dy + _vertex(scores[:, dx], int(dy))])
        found[i] = np.array([a, b]) - pad - REACH + peak + (place - np.floor(place))
    return found, score


def _correlation(patch: np.ndarray, area: np.ndarray) -> np.ndarray:
    """(2 REACH + 1)² normalised correlations of a patch with every place in an area."""
    size = 2 * RADIUS + 1
    windows = sliding_window_view(area, (size, size), axis=(0, 1))  # (y, x, colour, row, column)
    windows = windows - windows.mean(axis=(3, 4), keepdims=True)
    patch = (patch - patch.mean(axis=(0, 1))).transpose(2, 0, 1)
    scale = np.sqrt(np.square(windows).sum(axis=(2, 3, 4)) * np.square(patch).sum())
    return (windows * patch).sum(axis=(2, 3, 4)) / np.maximum(scale, 1e-9)


def _vertex(values: np.ndarray, at: int) -> float:
    """Where, from −½ to ½ beside the peak, the parabola through three values is highest."""
    if not 0 < at < len(values) - 1:
        return 0.0
    left, middle, right = values[at - 1 : at + 2]
    bend = left - 2 * middle + right
    return float(np.clip(0.5 * (left - right) / bend, -0.5, 0.5)) if bend < 0 else 0.0
