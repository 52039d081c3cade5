"""Which object is seen in each pixel of a picture, by its colour alone: fitted to real frames, used on dreams."""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from procosm.benchmarks.dream.physics.stage import PALETTE

BINS, BLUR_BINS = 32, 1.0


@dataclass(frozen=True)
class ColourClassifier:
    """The most probable object of every colour.

    Attributes:
        table: (32, 32, 32) uint8, from red, green and blue to 1 + the place in ``PALETTE``, 0 for no object.
    """

    table: np.ndarray

    def __call__(self, frames: np.ndarray) -> np.ndarray:
        """(…, h, w, 3) uint8 frames to (…, h, w) classes."""
        red, green, blue = np.moveaxis(frames // (256 // BINS), -1, 0)
        return self.table[red, green, blue]


def fit_colours(frames: np.ndarray, classes: np.ndarray) -> ColourClassifier:
    """Bayes' rule with counts of colours, blurred so that colours never met belong to their neighbours' class.

    Args:
        frames: (…, h, w, 3) uint8, real ones. classes: (…, h, w), what is seen in them.
    """
    bins = frames.reshape(-1, 3) // (256 // BINS)
    counts = np.zeros((1 + len(PALETTE), BINS, BINS, BINS), np.float32)
    np.add.at(counts, (classes.reshape(-1), *bins.T), 1)
    # A wide faint blur decides where the narrow one has nothing.
    density = gaussian_filter(counts, (0, *[BLUR_BINS] * 3)) + 1e-6 * gaussian_filter(counts, (0, *[4 * BLUR_BINS] * 3))
    return ColourClassifier(density.argmax(axis=0).astype(np.uint8))


def object_iou(found: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(n,) mean intersection over union of the objects that are truly in view in each picture; nan where none is.

    Args:
        found, true: (n, h, w) classes; 0 is no object.
    """
    colours = np.arange(1, 1 + len(PALETTE))[:, None, None, None]
    is_found, is_true = found == colours, true == colours  # (k, n, h, w)
    union = (is_found | is_true).sum(axis=(2, 3))
    shared = (is_found & is_true).sum(axis=(2, 3))
    there = is_true.any(axis=(2, 3))
    total = np.where(there, shared / np.maximum(union, 1), 0.0).sum(axis=0)
    count = there.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)
