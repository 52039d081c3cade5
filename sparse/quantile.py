"""Which scores are among the largest: four ways to find the threshold of a global keep fraction.

All share one call, ``select(scores, budget, sizes) -> mask``; a unit (a weight, or a block) has a score and a size,
and the sizes of the selected units should add up to ``budget``. ``sort`` is the exact reference, ``dumique`` the
sequential estimator of Procrustes' hardware, ``batched`` its one-multiply-a-step form, ``histogram`` one pass and
no state.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from procosm.sparse.autograd import backend
from procosm.sparse.errors import SparseError

Method = Literal["sort", "dumique", "batched", "histogram"]


@dataclass(frozen=True)
class QuantileConfig:
    """How the threshold between kept and dropped is found."""

    method: Method = "histogram"
    """sort (exact), dumique (sequential, CPU), batched (dumique in one multiply) or histogram (one pass)."""
    travel: float = 10.0
    """lambda * n of dumique and batched: how far (in nats) one pass can move the estimate. 3.5 to 12 in the paper's
    networks; below 1 the estimate never catches up with growing scores."""
    start: float = 1e-2
    """First estimate of dumique and batched, in units of the score."""
    carry: Literal["restart", "ulp", "ema"] = "ulp"
    """dumique's first estimate in a later pass: start again, the last one, or 0.1 * its own + 0.9 * the pass's mean."""

    def __post_init__(self) -> None:
        if self.travel <= 0 or self.start <= 0:
            raise SparseError(f"travel={self.travel} and start={self.start} of a quantile must be positive")


class Threshold:
    """A threshold search with its memory between passes. ``estimate`` is all there is to save."""

    def __init__(self, config: QuantileConfig) -> None:
        self.config = config
        self.estimate = config.start

    def select(self, scores: Tensor, budget: int, sizes: Tensor | None = None) -> Tensor:
        """Mark the units to keep and move the estimate.

        Args:
            scores: float32 (n,), finite and not negative.
            budget: total size to keep.
            sizes: int64 (n,), weights in each unit; None when each counts 1.

        Returns:
            bool (n,).

        Raises:
            SparseError: scores that are negative or not finite, or units of different sizes under dumique.
        """
        if scores.numel() == 0:
            return scores.to(torch.bool)
        if not bool((scores >= 0).all()) or not bool(torch.isfinite(scores).all()):
            raise SparseError("scores must be finite and not negative: a weight or gradient has overflowed or is NaN")
        total = scores.numel() if sizes is None else int(sizes.sum())
        if not 0 < budget < total:
            return torch.full_like(scores, budget > 0, dtype=torch.bool)
        if self.config.method == "sort":
            return exact(scores, budget, sizes)
        if self.config.method == "histogram":
            return histogram(scores, budget, sizes)
        if self.config.method == "batched":
            return self._batched(scores, budget / total, sizes, total)
        if sizes is not None and int(sizes.min()) != int(sizes.max()):
            raise SparseError("dumique streams units of one size: use one block size everywhere, or histogram")
        mask, last, mean = dumique(scores, budget / total, self.config.travel / scores.numel(), self.estimate)
        if self.config.carry == "ulp":
            self.estimate = last
        elif self.config.carry == "ema":
            self.estimate = 0.1 * self.estimate + 0.9 * mean
        return mask

    def _batched(self, scores: Tensor, keep: float, sizes: Tensor | None, total: int) -> Tensor:
        positive = scores[scores > 0]
        if positive.numel() == 0:
            return scores > self.estimate
        weight = torch.ones_like(scores, dtype=torch.int64) if sizes is None else sizes
        excess = float((weight * (scores > self.estimate)).sum()) / total - keep
        density = density_on_the_way(scores, weight, self.estimate, excess)
        eta = 1.0 / max(density, 1.0 / self.config.travel)
        moved = self.estimate * math.exp(eta * excess)
        self.estimate = min(max(moved, float(positive.min()) / 2), float(positive.max()))
        return scores > self.estimate


def exact(scores: Tensor, budget: int, sizes: Tensor | None = None) -> Tensor:
    """The largest scores that fit into the budget; of equal scores the one with the lower index first."""
    order = torch.argsort(scores, descending=True, stable=True)
    mask = torch.zeros_like(scores, dtype=torch.bool)
    if sizes is None:
        mask[order[:budget]] = True
    else:
        mask[order] = sizes[order].cumsum(0) <= budget
    return mask


def top(scores: Tensor, count: int) -> Tensor:
    """bool, the shape of ``scores``: its ``count`` largest, of equal ones the lower index first."""
    return exact(scores.reshape(-1), count).view(scores.shape)


def dumique(scores: Tensor, keep: float, rate: float, estimate: float) -> tuple[Tensor, float, float]:
    """DUMIQUE (Yazidi & Hammer, IEEE Trans. Cybernetics 49(3)) as Procrustes streams it: last score first, each
    decision taken before its update; est *= 1 + rate * q above the estimate, est *= 1 - rate * (1 - q) otherwise.

    Args:
        scores: (n,), streamed through in double precision on the CPU.
        keep: share of the scores to lie above; q = 1 - keep.
        rate: lambda.
        estimate: first estimate.

    Returns:
        mask bool (n,), the last estimate, the mean of the n estimates after each update.
    """
    q = 1.0 - keep
    up, down = 1.0 + rate * q, 1.0 - rate * (1.0 - q)
    marks, total = [], 0.0
    for score in reversed(scores.tolist()):
        above = estimate < score
        marks.append(above)
        estimate *= up if above else down
        total += estimate
    marks.reverse()
    return torch.tensor(marks, dtype=torch.bool, device=scores.device), estimate, total / len(marks)


def density_on_the_way(scores: Tensor, weight: Tensor, estimate: float, excess: float) -> float:
    """Mean density of ln(score) between the estimate and the place it must move to, f of the batched step excess / f.

    Over windows of 2^-10, 2^-9.5 .. 2^5 nats on the side to move to: the narrowest that holds the excess reaches at
    most sqrt(2) times too far, so a step never ends further off than 0.42 of where it began and cannot diverge, however
    concentrated the scores are. 0 where no window holds the excess.
    """
    distance = scores.double().clamp_min(1e-300).log() - math.log(estimate)
    distance = distance if excess > 0 else -distance
    ahead = weight * (distance > 0)
    window = (2.0 * distance.clamp_min(2.0**-10).log2()).ceil().long() + 20
    held = _counts(window.clamp(0, 31), ahead, 32).cumsum(0)[:31] / int(weight.sum())
    reached = torch.nonzero(held >= abs(excess))
    if reached.numel() == 0:
        return 0.0
    first = int(reached[0])
    return float(held[first]) / 2.0 ** ((first - 20) / 2)


def histogram(scores: Tensor, budget: int, sizes: Tensor | None = None) -> Tensor:
    """The largest scores that fit into the budget, found by counting; of equal scores those with the lower index.

    The leading bits of a positive float are a piecewise linear log2. Exponent and 4 mantissa bits make the histogram
    (the operation ``log_histogram``, 4096 bins of 1/16 octave); its boundary bin is counted once more over the next 8
    bits, and only what shares one of those bins of 1/4096 octave is sorted. Integer counts, so the result does not
    depend on the order of summation or on the device.
    """
    scores = scores.float().abs()  # -0.0 has the bits of the largest integer
    bits, count = scores.view(torch.int32), backend(scores).log_histogram
    coarse = bits >> 19
    if sizes is None:
        weight, filled = torch.ones_like(bits, dtype=torch.int64), count(scores).long()
    else:  # there are as many sizes as there are block sides
        weight = sizes
        filled = sum(size * count(scores[sizes == size]).long() for size in sizes.unique().tolist())
    above = filled.flip(0).cumsum(0).flip(0)  # size at or above each bin
    boundary = int((above > budget).sum()) - 1  # the highest bin that no longer fits; -1 cannot be, budget < total
    inside = coarse == boundary
    higher = int(above[boundary + 1]) if boundary + 1 < 4096 else 0
    fine = (bits >> 11) & 0xFF
    within = _counts(fine, weight * inside, 256).flip(0).cumsum(0).flip(0) + higher
    edge = int((within > budget).sum()) - 1
    mask = (coarse > boundary) | (inside & (fine > edge))
    tied = inside & (fine == edge)
    left = budget - int(weight[mask].sum())
    mask[tied] = exact(scores[tied], left, None if sizes is None else sizes[tied])
    return mask


def _counts(key: Tensor, weight: Tensor, bins: int) -> Tensor:
    return torch.zeros(bins, dtype=torch.int64, device=key.device).index_add_(0, key.long(), weight)
