"""What a search needs to know about a mask without counting it for every candidate: expected waits and overflow."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from procosm.sparse.accelerator.balance import Loads, loads, pair
from procosm.sparse.accelerator.problem import Problem

_SAMPLES = 1 << 14  # half-tiles drawn per estimate: the mean wait is then known to about 1 %


@dataclass(frozen=True)
class Estimate:
    """Balanced waits of one register-file tile: cycles relative to dense, and overflow for any budget."""

    inverse_speedup: float
    excess: np.ndarray
    """excess[b]: non-zeros beyond a budget of b words, summed over one pass of the sparse operand."""

    def overflow(self, budget: np.ndarray) -> np.ndarray:
        return self.excess[np.clip(budget, 0, len(self.excess) - 1)]

    @classmethod
    def of(cls, load: np.ndarray, volume: int, groups: float) -> Estimate:
        """From loads (waves, U) that stand for `groups` loads in all."""
        counts = np.bincount(load.ravel(), minlength=volume + 1).astype(float) * (groups / load.size)
        beyond = counts[::-1].cumsum()[::-1]  # loads of at least b
        excess = np.append(beyond[1:][::-1].cumsum()[::-1], 0.0)
        return cls(float(load.max(axis=1).mean()) / volume, excess)


@lru_cache(maxsize=4096)
def bernoulli_estimate(tiles: int, volume: int, split: bool, density: float) -> Estimate:
    """Waves of `tiles` independent Bernoulli tiles; `excess` is per tile. Seeded: the same call, the same answer."""
    rng = np.random.default_rng([tiles, volume, split])
    waves = max(8, _SAMPLES // (2 * tiles))
    if split:
        load = pair(rng.binomial(volume // 2, density, (waves, 2 * tiles)))
    else:
        load = rng.binomial(volume, density, (waves, tiles))
    estimate = Estimate.of(load, volume, 1.0)
    return estimate if tiles > 1 else Estimate(density, estimate.excess)  # a lone tile waits for nobody


def mask_estimate(counts: np.ndarray, problem: Problem, rf: tuple[int, ...], spatial: tuple[int, ...]) -> Estimate:
    """The exact balanced waits of a real mask (or of its counts over dimensions the register file holds whole)."""
    load: Loads = loads(counts, problem, rf, spatial)
    chosen = load.of(True)
    return Estimate.of(chosen, max(load.volume, int(chosen.max())), chosen.size)
