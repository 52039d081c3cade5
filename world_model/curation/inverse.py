"""Inverse dynamics by a Gaussian process: what a robot did, estimated from what its cameras saw before and after.

A few thousand steps of logs, some of them faulty, are too few to train a network on, and enough for regression with a
kernel, whose every estimate for a log can be made without that log in closed form (Rasmussen and Williams 2006, 5.4.2).
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from procosm.world_model.threads import one_thread

SIDE = 16
"""Pixels of a picture's height that is looked at."""
BLUR = 1.0
"""Deviation in these pixels by which a picture is blurred: what moves by less changes it in proportion."""
AROUND = 2
"""Changes of the picture before and after a step that are looked at, beside the step's own."""
NOISE = 1.0
"""Variance of what frames do not tell of an action, over the kernel's own."""


@dataclass(frozen=True)
class Sample:
    """What is learned from of one log: pictures (n, h, w) float32 as of ``small``, actions (n - 1, a)."""

    pictures: np.ndarray
    actions: np.ndarray


def small(frames: np.ndarray) -> np.ndarray:
    """(n, 16, w) float32, 0 to 1: frames (n, H, W, 3) in grey and blurred, as wide for each height as they were."""
    import cv2

    size = (max(4, round(SIDE * frames.shape[2] / frames.shape[1])), SIDE)
    grey = [cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), size, interpolation=cv2.INTER_AREA) for f in _light(frames)]
    return np.stack([cv2.GaussianBlur(picture, (0, 0), BLUR) for picture in grey])


def _light(frames: np.ndarray) -> np.ndarray:
    return frames.astype(np.float32) / 255


@dataclass(frozen=True)
class Steps:
    """What is seen of each step: pictures before and after it (T, 2 p), and the changes around it (T, 5 p).

    An action often shows best in what comes after: a torque changes a speed, which takes pictures before and after
    to be seen. Beyond the ends nothing changes.
    """

    shown: Tensor
    changed: Tensor

    @classmethod
    def of(cls, pictures: Tensor) -> "Steps":
        """The n - 1 steps between pictures (n, h, w)."""
        flat = pictures.flatten(1)
        change = flat[1:] - flat[:-1]
        padded = nn.functional.pad(change, (0, 0, AROUND, AROUND))
        around = [padded[offset : offset + len(change)] for offset in range(2 * AROUND + 1)]
        return cls(torch.cat([flat[:-1], flat[1:]], 1), torch.cat(around, 1))

    @classmethod
    def join(cls, parts: list["Steps"]) -> "Steps":
        """All steps of all parts."""
        return cls(torch.cat([part.shown for part in parts]), torch.cat([part.changed for part in parts]))


@dataclass(frozen=True)
class Kernel:
    """How alike two steps are: actions are linear in changes (accelerations, by torques), otherwise in another pose.

    The product of the changes, times Gaussians of how far pictures and changes lie apart.

    Attributes:
        shown, changed: squared lengths of these Gaussians. height: of the product, so that a step has 1 with itself.
    """

    shown: float
    changed: float
    height: float

    @classmethod
    def fit(cls, steps: Steps) -> "Kernel":
        """Lengths from the medians of the distances of these steps."""
        return cls(
            max(float(_apart(steps.shown, steps.shown).median()), 1e-9),
            max(2 * float(_apart(steps.changed, steps.changed).median()), 1e-9),
            max(float(steps.changed.square().sum(1).mean()), 1e-9),
        )

    def __call__(self, first: Steps, second: Steps) -> Tensor:
        """(n, m) of n and m steps."""
        apart = _apart(first.shown, second.shown) / self.shown + _apart(first.changed, second.changed) / self.changed
        return (first.changed @ second.changed.T) / self.height * torch.exp(-apart / 2)


def _apart(first: Tensor, second: Tensor) -> Tensor:
    """(n, m): squared distances of rows."""
    squares = first.square().sum(1)[:, None] + second.square().sum(1)
    return (squares - 2 * first @ second.T).clamp_min(0)


@one_thread()
def solve(likeness: Tensor, noise: Tensor, actions: Tensor, folds: Tensor, count: int) -> Tensor:
    """(count, n, a): what the actions (n, a) of n steps weigh in an estimate, without the steps of each fold.

    An estimate is a row of the kernel times these.

    Args:
        likeness: (n, n), the kernel of all steps. noise: (n,), variance of each. folds: (n,), whole numbers from 0 to
            ``count``; where a fold has no step, nothing is left out.
    """
    inverse = torch.cholesky_inverse(torch.linalg.cholesky(likeness + torch.diag(noise)))
    every = inverse @ actions
    parts = []
    for fold in range(count):
        inside = folds == fold
        across = inverse[:, inside]
        parts.append(every - across @ torch.linalg.solve(across[inside], every[inside]))
    return torch.stack(parts)
