"""How dense a model and each of its layers may be, and the share of the initial weights that is left, over time."""

import math
from collections.abc import Sequence

from procosm.sparse.errors import SparseError

SNAP = 1e-10  # d_t below this is 0: the untracked weights are exact zeros from then on


def initial_share(step: int, decay: float) -> float:
    """d_t, the share of W0 left after ``step`` iterations: d_0 = 1, d_t = decay * d_{t-1}, 0 once below 1e-10.

    With the default decay 0.9 that is 219 iterations; decay 0 leaves nothing after the first. The product is formed
    step by step, so that a resumed run and an uninterrupted one use the same double.
    """
    if decay == 1.0:
        return 1.0
    share = 1.0
    for _ in range(step):
        share *= decay
        if share < SNAP:
            return 0.0
    return share


def density_at(step: int, final: float, initial: float = 1.0, ramp_steps: int = 0) -> float:
    """rho_t = final + (initial - final) * (1 - t / ramp)^3 up to ``ramp_steps`` (Zhu & Gupta, arXiv 1710.01878), then
    final; constant where ``ramp_steps`` is 0.
    """
    if step >= ramp_steps:
        return final
    return final + (initial - final) * (1.0 - step / ramp_steps) ** 3


def check_density(density: float) -> None:
    """Raises SparseError for a density outside (0, 1]."""
    if not 0.0 < density <= 1.0:
        raise SparseError(f"density {density} is outside (0, 1]: it is the share of weights to keep")


def allocate(shapes: Sequence[tuple[int, ...]], sizes: Sequence[int], density: float, kind: str) -> list[float]:
    """Density per layer so that all together have ``density``.

    Args:
        shapes: of the dense weights, all axes. sizes: how many weights each has.
        kind: uniform, or erk: proportional to (sum of the axes) / (product of the axes), where layers that would exceed
            1 are kept whole.
    """
    if kind == "uniform":
        return [density] * len(sizes)
    raw = [sum(shape) / math.prod(shape) for shape in shapes]
    whole: set[int] = set()
    while True:
        rest = [i for i in range(len(sizes)) if i not in whole]
        left = density * sum(sizes) - sum(sizes[i] for i in whole)
        scale = left / sum(raw[i] * sizes[i] for i in rest) if rest else 0.0
        over = {i for i in rest if scale * raw[i] > 1.0}
        if not over:
            return [1.0 if i in whole else scale * raw[i] for i in range(len(sizes))]
        whole |= over
