"""How sharp pictures are: the energy of their finest details, as Haar wavelets have them, over that of true ones.

A mean of pictures that may come next loses its finest details first; a picture drawn from them keeps as many as a real
one has, wherever its objects are.
"""

import numpy as np


def detail_energy(frames: np.ndarray) -> np.ndarray:
    """(n,) mean square of the finest differences in brightness of (n, h, w, 3) uint8 frames, across and down."""
    bright = frames.astype(np.float32).mean(axis=3)
    across = bright[:, :, 0::2] - bright[:, :, 1::2]
    down = bright[:, 0::2] - bright[:, 1::2]
    return (np.square(across).mean(axis=(1, 2)) + np.square(down).mean(axis=(1, 2))) / 2


def sharpness(frames: np.ndarray, true: np.ndarray) -> np.ndarray:
    """(n,): 1 for frames with as much fine detail as the true ones (n, h, w, 3) have, less for blurred ones.

    nan where a true frame has none.
    """
    wanted = detail_energy(true)
    return np.divide(detail_energy(frames), wanted, out=np.full(len(true), np.nan, np.float32), where=wanted > 0)
