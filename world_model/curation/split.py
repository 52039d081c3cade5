"""Where one shot ends and the next begins, and the clips that a log is cut into there."""

from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt

from procosm.world_model.errors import ProcosmError
from procosm.world_model.settings import Count, Settings

RATE = Fraction(30)
"""Frames per second that the detector is told; it counts frames, so that any rate does."""


@dataclass(frozen=True)
class SplitConfig(Settings):
    """How logs are cut into clips."""

    shortest: Annotated[int, Ge(2)] = 16
    """Frames of a clip at the least; what is shorter is dropped."""
    longest: Annotated[int, Ge(4)] = 512
    """Frames of a clip at the most; what is longer is cut into equal parts."""
    cut_ratio: Annotated[float, Gt(1)] = 5.0
    """How many times larger the change at a cut is than that of the two frames before and after it."""
    cut_change: Annotated[float, Gt(0)] = 6.0
    """Least change at a cut: mean difference of hue, saturation and value, of 255."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.longest < 2 * self.shortest:
            raise ProcosmError(
                f"--longest {self.longest} is less than two of --shortest {self.shortest}: no cut could keep both parts"
            )


@dataclass(frozen=True)
class Span:
    """Frames ``first`` to ``last`` of a log, both included; a clip of n frames has n - 1 steps."""

    first: int
    last: int

    @property
    def count(self) -> Count:
        """Frames."""
        return self.last - self.first + 1


def find_cuts(frames: np.ndarray, config: SplitConfig) -> list[int]:
    """Indices of the frames with which a new shot begins, as PySceneDetect's adaptive detector finds them.

    A cut is a frame that differs from the one before far more than the frames around it differ from each other:
    neither a fast robot nor a camera that pans makes one.

    Args:
        frames: (n, H, W, 3) uint8, RGB.
    """
    from scenedetect import FrameTimecode
    from scenedetect.detectors import AdaptiveDetector

    detector = AdaptiveDetector(
        adaptive_threshold=config.cut_ratio, min_scene_len=2, min_content_val=config.cut_change, window_width=2
    )
    found: list[int] = []
    for index, frame in enumerate(frames):
        moment = FrameTimecode(index, RATE)
        found += [cut.frame_num for cut in detector.process_frame(moment, np.ascontiguousarray(frame[..., ::-1]))]
    return found


def spans_between(count: int, cuts: list[int], config: SplitConfig) -> tuple[list[Span], list[Span]]:
    """The clips of a log, and the pieces that are too short to be one.

    Args:
        count: frames of the log. cuts: indices of frames with which a shot begins.
    """
    edges = [0, *cuts, count]
    kept, short = [], []
    for begin, end in pairwise(edges):
        if end - begin < config.shortest:
            short.append(Span(begin, end - 1))
            continue
        parts = -(-(end - begin) // config.longest)
        bounds = np.linspace(begin, end, parts + 1).round().astype(int).tolist()
        kept += [Span(a, b - 1) for a, b in pairwise(bounds)]
    return kept, short
