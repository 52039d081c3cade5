"""Pinhole eyes, the fundamental matrix of two of them, and Sampson's distance (Hartley & Zisserman 2004, ch. 9, 11).

Pixels: x to the right and y down, continuous; pixel (0, 0) covers 0 to 1, so that its centre is (0.5, 0.5).
"""

from dataclasses import dataclass

import numpy as np

from procosm.envs.truth.camera import Pose


@dataclass(frozen=True)
class Eye:
    """A pinhole camera.

    Attributes:
        intrinsic: (3, 3), pixels. rotation: (3, 3), world axes to right, down, forward. position: (3,), metres.
    """

    intrinsic: np.ndarray
    rotation: np.ndarray
    position: np.ndarray

    @classmethod
    def of(cls, pose: Pose, height: int, width: int) -> "Eye":
        """The eye of a picture of ``height`` by ``width`` pixels taken from ``pose``."""
        across, down = 0.5 * width / pose.tan_width, 0.5 * height / pose.tan_height
        intrinsic = np.array([[across, 0, 0.5 * width], [0, down, 0.5 * height], [0, 0, 1.0]])
        right = np.cross(pose.forward, pose.up)
        return cls(intrinsic, np.stack([right, -pose.up, pose.forward]), np.asarray(pose.position, np.float64))

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels (n, 2) and depth in metres (n,) of (n, 3) world points."""
        seen = (points - self.position) @ self.rotation.T @ self.intrinsic.T
        return seen[:, :2] / seen[:, 2:], seen[:, 2]

    def beside(self, position: np.ndarray, rotation: np.ndarray) -> "Eye":
        """The same eye in the axes of a body at ``position`` (3,) with ``rotation`` (3, 3), body axes to world axes.

        A body that moves before an eye is, to the body, an eye that moves: so ``fundamental`` serves both.
        """
        return Eye(self.intrinsic, self.rotation @ rotation, rotation.T @ (self.position - position))


def fundamental(first: Eye, second: Eye) -> np.ndarray:
    """(3, 3) F with y' F x = 0 for every point seen at x by the first eye and at y by the second; of unit norm.

    Zero where both eyes stand in one place: then there is no epipolar line.
    """
    turn, shift = second.rotation @ first.rotation.T, second.rotation @ (first.position - second.position)
    cross = np.array([[0, -shift[2], shift[1]], [shift[2], 0, -shift[0]], [-shift[1], shift[0], 0]])
    found = np.linalg.inv(second.intrinsic).T @ cross @ turn @ np.linalg.inv(first.intrinsic)
    size = np.linalg.norm(found)
    return found / size if np.linalg.norm(shift) > 1e-9 else np.zeros((3, 3))


def sampson(f: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """(n,) pixels: how far pairs x, y (n, 2) are, to first order, from the nearest pairs that obey ``f`` (eq. 11.9)."""
    ones = np.ones((len(x), 1))
    x, y = np.hstack([x, ones]), np.hstack([y, ones])
    lines, back = x @ f.T, y @ f
    slope = np.square(lines[:, :2]).sum(axis=1) + np.square(back[:, :2]).sum(axis=1)
    return np.abs((y * lines).sum(axis=1)) / np.sqrt(slope)
