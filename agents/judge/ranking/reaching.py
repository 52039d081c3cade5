"""Controllers of Reacher that solve it without training, and the same led astray, with as little torque.

The reward's price of torque alone ranks a panel whose bad policies all push hard; these are bad for where they go. The
torque is that of a spring from the fingertip to a point, by the transposed Jacobian, less damping of the joints
(Siciliano et al. 2009, Robotics, §8.6).
"""

import numpy as np

TASK = "Reacher-v5"
UPPER_M, FORE_M = 0.1, 0.11
"""Lengths of the arm's links: reacher.xml of Gymnasium."""
SPRINGS = ((3.0, 0.05), (10.0, 0.02), (10.0, 0.05), (10.0, 0.1), (30.0, 0.05), (30.0, 0.1), (100.0, 0.1))
"""Stiffness, 1/m², and damping, s, in shares of the full torque."""
ASTRAY_RAD = (0.4, 0.8, 1.6, 3.1)
"""How far the point that is reached for is turned away from the target, about the arm's root."""


def springs() -> list[tuple[float, float, float]]:
    """Arguments of ``torque``: springs of several kinds to the target, and two of them that reach for another point."""
    astray = [(*spring, turned) for spring in ((10.0, 0.05), (30.0, 0.1)) for turned in ASTRAY_RAD]
    return [(*spring, 0.0) for spring in SPRINGS] + astray


def torque(observed: np.ndarray, stiffness: float, damping: float, turned_rad: float) -> np.ndarray:
    """(m, 2) torques from (m, 10) observations of Reacher-v5: cosines, sines, target, speeds, finger less target."""
    (c1, c2), (s1, s2) = observed[:, 0:2].T, observed[:, 2:4].T
    c12, s12 = c1 * c2 - s1 * s2, s1 * c2 + c1 * s2
    tip = np.stack([UPPER_M * c1 + FORE_M * c12, UPPER_M * s1 + FORE_M * s12], axis=1)
    cos, sin = np.cos(turned_rad), np.sin(turned_rad)
    apart = observed[:, 4:6] @ np.array([[cos, sin], [-sin, cos]]) - tip
    elbow = np.stack([-FORE_M * s12, FORE_M * c12], axis=1)
    shoulder = elbow + np.stack([-UPPER_M * s1, UPPER_M * c1], axis=1)
    spring = np.stack([(shoulder * apart).sum(axis=1), (elbow * apart).sum(axis=1)], axis=1)
    return stiffness * spring - damping * observed[:, 6:8]
