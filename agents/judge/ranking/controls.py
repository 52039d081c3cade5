"""What must score worse than the dream, on the panel that the dream is praised on.

A panel is easy where a few policies are good and the many are bad alike, or where the reward is nearly the cost of the
actions: then a ranking needs no dream. So beside every number of the dream stands the same number of predictors that
know nothing of it.
"""

from collections.abc import Iterator

import numpy as np

BANDS = 3
SHUFFLES = 200


def bands(real: np.ndarray, count: int = BANDS) -> np.ndarray:
    """(n,) which of ``count`` bands of returns each policy is in, 0 the lowest; cut at the largest gaps."""
    order = np.argsort(real, kind="stable")
    cuts = np.sort(np.argsort(-np.diff(real[order]), kind="stable")[: count - 1])
    band = np.empty(len(real), np.int64)
    band[order] = np.searchsorted(cuts, np.arange(len(real)), side="left")
    return band


def shuffled(dreamed: np.ndarray, band: np.ndarray, seed: int = 0) -> Iterator[np.ndarray]:
    """The dream's scores, ``SHUFFLES`` times, with those of each band dealt out anew among its policies.

    What a statistic loses by it is what the dream knows beyond which band a policy is in.
    """
    rng = np.random.default_rng(seed)
    for _ in range(SHUFFLES):
        dealt = dreamed.copy()
        for each in np.unique(band):
            there = np.flatnonzero(band == each)
            dealt[there] = dreamed[rng.permutation(there)]
        yield dealt


def action_cost(effort: np.ndarray) -> np.ndarray:
    """(p,) the score −Σa² of policies, from (p, e) sums of their squared actions in MuJoCo's episodes: no dream at all,
    and more than anybody has who has only logs."""
    return -effort.mean(axis=1)
