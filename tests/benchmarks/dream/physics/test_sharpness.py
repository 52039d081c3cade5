import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from procosm.benchmarks.dream.physics.sharpness import detail_energy, sharpness


@pytest.fixture
def frames() -> np.ndarray:
    """Bright squares on grey, each at a place of its own, (6, 32, 32, 3)."""
    found = np.full((6, 32, 32, 3), 90, np.uint8)
    for n, frame in enumerate(found):
        frame[3 + 2 * n : 12 + 2 * n, 5 + n : 14 + n] = (230, 60, 40)
    return found


def test_blurred_and_averaged_frames_are_less_sharp_and_moved_ones_are_not(frames):
    assert sharpness(frames, frames) == pytest.approx(np.ones(6))
    moved = np.roll(frames, (2, 4), axis=(1, 2))
    assert sharpness(moved, frames) == pytest.approx(np.ones(6))
    blurred = gaussian_filter(frames.astype(np.float32), (0, 1, 1, 0)).round().astype(np.uint8)
    mean = np.repeat(frames.mean(axis=0, keepdims=True), 6, axis=0).round().astype(np.uint8)
    assert (sharpness(blurred, frames) < 0.6).all() and (sharpness(mean, frames) < 0.5).all()


def test_energy_of_stripes_is_known_and_a_flat_frame_has_none():
    stripes = np.zeros((1, 8, 8, 3), np.uint8)
    stripes[:, :, 0::2] = 10  # every pair of columns differs by 10, no pair of rows does
    assert detail_energy(stripes) == pytest.approx([50.0])
    assert np.isnan(sharpness(stripes, np.zeros_like(stripes))).all()
