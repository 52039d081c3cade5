"""Structural similarity of frames (Wang et al. 2004, eq. 13), with the authors' window and constants."""

import numpy as np
from scipy.ndimage import gaussian_filter1d

SIGMA_PIXELS, RADIUS = 1.5, 5
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def ssim(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,) similarities of (n, H, W, c) uint8 frames: 1 for equal ones; colours count alike.

    The mean leaves out a border of five pixels, where the 11 × 11 window does not fit.
    """
    x, y = first.astype(np.float32), second.astype(np.float32)
    mean_x, mean_y = _blur(x), _blur(y)
    variance_x, variance_y = _blur(x * x) - mean_x**2, _blur(y * y) - mean_y**2
    covariance = _blur(x * y) - mean_x * mean_y
    likeness = (2 * mean_x * mean_y + C1) * (2 * covariance + C2)
    likeness /= (mean_x**2 + mean_y**2 + C1) * (variance_x + variance_y + C2)
    inside = slice(RADIUS, -RADIUS)
    return likeness[:, inside, inside].mean(axis=(1, 2, 3), dtype=np.float64)


def _blur(frames: np.ndarray) -> np.ndarray:
    rows = gaussian_filter1d(frames, SIGMA_PIXELS, axis=1, radius=RADIUS)
    return gaussian_filter1d(rows, SIGMA_PIXELS, axis=2, radius=RADIUS)
