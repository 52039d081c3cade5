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
        length = np.sqrt(np.square(rest[..., 0]) + np.square(rest[..., 1]))
        rows.append((*(shift / side), zoom, length.mean() / side))
    table = np.array(rows, np.float64)
    signed = pictures.astype(np.int16)
    change, skip = (np.abs(signed[step:] - signed[:-step]).mean((1, 2)) for step in (1, 2))
    return Motion(table[:, :2], table[:, 2], table[:, 3], change, skip)


def _background(moved: np.ndarray, picture: np.ndarray) -> tuple[np.ndarray, float, np.ndarray]:
    """Shift and zoom that most of the textured pixels share, and the flow that is left, (h, w, 2)."""
    import cv2

    slopes = np.abs(cv2.Sobel(picture, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(picture, cv2.CV_32F, 0, 1))
    textured = slopes > max(16.0, float(np.percentile(slopes, 60)))
    if np.count_nonzero(textured) < LEAST_TEXTURE:
        return np.zeros(2), 0.0, moved
    rays, reach, outer = _rays(*picture.shape)
    shift = _shared_shift(moved, textured)
    # Growth: flow along the ray from the centre, over the distance from it.
    far = np.flatnonzero(textured & outer)
    flow, away = moved.reshape(-1, 2)[far] - shift, rays.reshape(-1, 2)[far]
    along = (flow[:, 0] * away[:, 0] + flow[:, 1] * away[:, 1]) / reach.ravel()[far] ** 2
    zoom = float(np.median(along)) if len(along) >= LEAST_TEXTURE else 0.0
    return shift, zoom, moved - shift - zoom * rays


def _shared_shift(moved: np.ndarray, textured: np.ndarray) -> np.ndarray:
    """The median over the picture's cells of each cell's median flow, so that one moving thing is one vote of many."""
    cells, inside = _cells(*textured.shape)
    counted = textured.ravel()[cells] & inside
    counts = counted.sum(1)
    voting = np.flatnonzero(counts >= LEAST_VOTES)
    if not len(voting):
        return np.zeros(2)
    flow = np.where(counted[voting, :, None], moved.reshape(-1, 2)[cells[voting]], np.inf)
    flow.sort(axis=1)  # what has no say comes last
    row, counts = np.arange(len(voting)), counts[voting]
    found: np.ndarray = np.median((flow[row, (counts - 1) // 2] + flow[row, counts // 2]) / 2, axis=0)
    return found


@cache
def _cells(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The pixels of each cell, (cells, most pixels of one), and which of these are there: cells differ in size."""
    rows, columns = (np.linspace(0, side, CELLS + 1).round().astype(int) for side in (height, width))
    numbers = np.arange(height * width).reshape(height, width)
    parts = [numbers[a:b, c:d].ravel() for a, b in pairwise(rows) for c, d in pairwise(columns)]
    most = max(len(part) for part in parts)
    cells = np.stack([np.pad(part, (0, most - len(part))) for part in parts])
    return cells, np.arange(most) < np.array([len(part) for part in parts])[:, None]


@cache
def _rays(height: int, width: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(h, w, 2): each pixel's place from the centre, to the right and down; how far it is; if it tells growth."""
    across, down = np.meshgrid(np.arange(width) - width / 2, np.arange(height) - height / 2)
    rays = np.stack([across, down], -1).astype(np.float32)
    reach = np.linalg.norm(rays, axis=-1)
    return rays, reach, reach > max(height, width) / 6
