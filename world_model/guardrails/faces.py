"""Faces in video, made unrecognisable: found by the cascade that ships in scikit-image, covered by large pixels.

The detector is OpenCV's LBP cascade for frontal faces (Liao et al. 2007, ``lbpcascade_frontalface``), trained on
frontal faces of 24 pixels and more: it sees no profile, no smaller face and no face behind a mask.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from procosm.world_model.errors import ProcosmError

SMALLEST = 24
"""Pixels of the smallest face that is found."""
BLOCKS = 6
"""Pixels that are left of a face, along each side."""
MARGIN = 0.15
"""Of a face's side, that is covered around it."""
AGREEING = 4
"""Neighbouring windows that have to see a face: fewer make more mistakes on robots."""


@dataclass(frozen=True)
class Face:
    """Where a face was found: frame, and its rows and columns."""

    frame: int
    top: int
    left: int
    height: int
    width: int


class FaceBlur:
    """Finds faces and covers them."""

    def __init__(self) -> None:
        _cascade()

    def find(self, frames: np.ndarray) -> list[Face]:
        """The faces in frames (n, H, W, 3) uint8."""
        height, width = frames.shape[1:3]
        largest = min(height, width)
        if largest < SMALLEST:
            return []
        found = []
        for index, frame in enumerate(frames):
            seen = _cascade().detect_multi_scale(
                img=frame, scale_factor=1.2, step_ratio=1, min_size=(SMALLEST, SMALLEST),
                max_size=(largest, largest), min_neighbor_number=AGREEING,
            )  # fmt: skip
            found += [Face(index, int(f["r"]), int(f["c"]), int(f["height"]), int(f["width"])) for f in seen]
        return found

    def cover(self, frames: np.ndarray) -> tuple[np.ndarray, list[Face]]:
        """A copy of frames (n, H, W, 3) uint8 whose faces show ``BLOCKS`` by ``BLOCKS`` pixels, and where they were."""
        faces = self.find(frames)
        covered = frames.copy() if faces else frames
        for face in faces:
            margin = (round(MARGIN * face.height), round(MARGIN * face.width))
            rows = slice(max(0, face.top - margin[0]), face.top + face.height + margin[0])
            columns = slice(max(0, face.left - margin[1]), face.left + face.width + margin[1])
            covered[face.frame, rows, columns] = _mosaic(covered[face.frame, rows, columns])
        return covered, faces


@cache
def _cascade() -> Any:
    """The detector, one for each process: it cannot be sent to another."""
    try:
        from skimage.data import lbp_frontal_face_cascade_filename
        from skimage.feature import Cascade
    except ImportError as error:
        raise ProcosmError("faces are found by scikit-image: pip install 'procosm[curation]'") from error
    return Cascade(lbp_frontal_face_cascade_filename())


def _mosaic(part: np.ndarray) -> np.ndarray:
    """A picture (h, w, 3) as a few large pixels of the same size, each the mean of what it covers."""
    edges = [np.linspace(0, side, min(BLOCKS, side) + 1).round().astype(int) for side in part.shape[:2]]
    found = part.copy()
    for top, bottom in zip(edges[0][:-1], edges[0][1:], strict=True):
        for left, right in zip(edges[1][:-1], edges[1][1:], strict=True):
            found[top:bottom, left:right] = part[top:bottom, left:right].mean((0, 1)).astype(np.uint8)
    return found
