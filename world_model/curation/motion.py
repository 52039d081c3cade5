"""How a picture moves: what the camera does and what happens in front of it, told apart by optical flow."""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np

SIDE = 96
"""Pixels of the longer side at which flow is computed; shifts are given as a share of it."""
PAN, ZOOM = 0.004, 0.004
"""Shares of the picture per frame from which on a steady movement of the camera counts as one."""

CELLS, LEAST_VOTES = 6, 4
"""Cells of a picture's side that each have a say in how the background moves, and the edge pixels a say takes."""
LEAST_TEXTURE = 16
"""Pixels with an edge below which nothing can be said of the background."""


@dataclass(frozen=True)
class Motion:
    """Movement in one view of a clip; lengths are shares of the picture's longer side per frame.

    Attributes:
        shift: (n - 1, 2), of the background to the right and down. zoom: (n - 1,), its growth.
        activity: (n - 1,), mean length of the flow against the background.
        change: (n - 1,), mean difference of brightness between neighbouring frames, of 255.
        skip: (n - 2,), that between each frame and the one after the next.
    """

    shift: np.ndarray
    zoom: np.ndarray
    activity: np.ndarray
    change: np.ndarray
    skip: np.ndarray

    @property
    def shake(self) -> float:
        """Camera jitter: how far the background's shift differs from the mean of the steps beside it, root mean square.

        A pan, a tracking camera and a robot that accelerates change their speed little from frame to frame.
        """
        if len(self.shift) < 3:
            return 0.0
        jitter = self.shift[1:-1] - (self.shift[:-2] + self.shift[2:]) / 2
        return float(np.sqrt(np.square(jitter).sum(1).mean()))

    @property
    def glitch(self) -> float:
        """How much the most foreign frame differs from both its neighbours, over how much these differ: a flash, a
        frame of another film. Motion goes on, so that it makes at most about 1."""
        return float((np.minimum(self.change[:-1], self.change[1:]) / (self.skip + 1)).max()) if len(self.skip) else 0.0

    def tags(self) -> list[str]:
        """What the camera does: ``pan``, ``tilt``, ``zoom``, or ``static camera``."""
        across, down = np.abs(np.median(self.shift, axis=0)) if len(self.shift) else (0.0, 0.0)
        grows = abs(float(np.median(self.zoom))) if len(self.zoom) else 0.0
        named = [("pan", across > PAN), ("tilt", down > PAN), ("zoom", grows > ZOOM)]
        return [name for name, seen in named if seen] or ["static camera"]


def grey(frames: np.ndarray) -> np.ndarray:
    """(n, h, w) uint8: brightness of frames (n, H, W, 3), at most ``SIDE`` pixels on the longer side."""
    import cv2

    scale = min(1.0, SIDE / max(frames.shape[1:3]))
    size = (max(8, round(frames.shape[2] * scale)), max(8, round(frames.shape[1] * scale)))
    return np.stack(
        [cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA) for f in frames]
    )


def measure_motion(frames: np.ndarray) -> Motion:
    """Movement in one view, (n, H, W, 3) uint8 with n at least 2."""
    import cv2

    pictures = grey(frames)
    side = max(pictures.shape[1:])
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
    flow.setFinestScale(0)
    rows = []
    for before, after in pairwise(pictures):
        moved = flow.calc(before, after, None)  # type: ignore[call-overload]  # makes the array itself
        shift, zoom, rest = _background(moved, before)
        rows.append((*(shift / side), zoom, np.linalg.norm(rest, axis=-1).mean() / side))
    table = np.array(rows, np.float64)
    signed = pictures.astype(np.int16)
    change, skip = (np.abs(signed[step:] - signed[:-step]).mean((1, 2)) for step in (1, 2))
    return Motion(table[:, :2], table[:, 2], table[:, 3], change, skip)


def _background(moved: np.ndarray, picture: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Shift and zoom that most of the textured pixels share, and the flow that is left, (h, w, 2)."""
    import cv2

    slopes = np.abs(cv2.Sobel(picture, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(picture, cv2.CV_32F, 0, 1))
    textured = slopes > max(16.0, float(np.percentile(slopes, 60)))
    if textured.sum() < LEAST_TEXTURE:
        return np.zeros(2), 0.0, moved
    rays = _rays(*picture.shape)
    shift = _shared_shift(moved, textured)
    # Growth: flow along the ray from the centre, over the distance from it.
    reach = np.linalg.norm(rays, axis=-1)
    far = textured & (reach > max(picture.shape) / 6)
    along = ((moved[far] - shift) * rays[far]).sum(-1) / reach[far] ** 2
    zoom = float(np.median(along)) if len(along) >= LEAST_TEXTURE else 0.0
    return shift, zoom, moved - shift - zoom * rays


def _shared_shift(moved: np.ndarray, textured: np.ndarray) -> np.ndarray:
    """The median over the picture's cells of each cell's median flow, so that one moving thing is one vote of many."""
    rows, columns = (np.linspace(0, side, CELLS + 1).round().astype(int) for side in textured.shape)
    votes = []
    for top, bottom in pairwise(rows):
        for left, right in pairwise(columns):
            here = textured[top:bottom, left:right]
            if here.sum() >= LEAST_VOTES:
                votes.append(np.median(moved[top:bottom, left:right][here], axis=0))
    found: np.ndarray = np.median(votes, axis=0) if votes else np.zeros(2)
    return found


@cache
def _rays(height: int, width: int) -> np.ndarray:
    """(h, w, 2): each pixel's place from the centre, to the right and down."""
    across, down = np.meshgrid(np.arange(width) - width / 2, np.arange(height) - height / 2)
    return np.stack([across, down], -1).astype(np.float32)
