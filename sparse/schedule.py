"""What changes on a clock: the share of the initial weights that is left, and how dense the model may be."""

from dataclasses import dataclass
from typing import Literal

from procosm.sparse.errors import SparseError

SNAP = 1e-10  # d_t below this is 0: the untracked weights are exact zeros from then on


@dataclass(frozen=True)
class DensityConfig:
    """Share of the weights that is kept, over time."""

    final: float = 0.1
    """Density rho to end at, in (0, 1]."""
    kind: Literal["constant", "cubic"] = "constant"
    """constant: final from the first step; cubic: from initial down to final (Zhu & Gupta, arXiv 1710.01878)."""
    initial: float = 1.0
    """Density the cubic schedule starts from."""
    ramp_steps: int = 0
    """Steps the cubic schedule takes."""

    def __post_init__(self) -> None:
        for name in ("final", "initial"):
            value = getattr(self, name)
            if not 0.0 < value <= 1.0:
                raise SparseError(f"density {name}={value} is outside (0, 1]: it is the share of weights to keep")
        if self.kind == "cubic" and (self.ramp_steps <= 0 or self.initial < self.final):
            raise SparseError("a cubic density schedule needs ramp_steps > 0 and initial >= final")

    def at(self, step: int) -> float:
        """rho_t; cubic: final + (initial - final) * (1 - t / ramp)^3."""
        if self.kind == "constant" or step >= self.ramp_steps:
            return self.final
        return self.final + (self.initial - self.final) * (1.0 - step / self.ramp_steps) ** 3


def initial_share(step: int, decay: float) -> float:
    """d_t, the share of W0 left after ``step`` iterations: d_0 = 1, d_t = decay * d_{t-1}, 0 once below 1e-10.

    With the default decay 0.9 that is 219 iterations. The product is formed step by step, so that a resumed run
    and an uninterrupted one use the same double.
    """
    share = 1.0
    for _ in range(step):
        share *= decay
        if share < SNAP:
            return 0.0
        if decay == 1.0:
            break
    return share
