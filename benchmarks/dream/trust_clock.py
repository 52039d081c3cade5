"""What trust says that a clock cannot: every dream is good at first, and all are lost in the end.

All arrays are (n, T), n dreams of T steps at most: ``told`` trust, ``good`` whether the step is within the bound,
``there`` whether the dream was still going on.
"""

import numpy as np

from procosm.agents.judge.stats import auroc


def within_horizon(told: np.ndarray, good: np.ndarray, there: np.ndarray) -> float:
    """AUROC of pairs of steps equally long after their starts; a clock has .5. nan where no horizon has both kinds."""
    concordant, pairs = 0.0, 0
    for score, label, alive in zip(told.T, good.T, there.T, strict=True):
        here = label[alive]
        count = int(here.sum()) * int((~here).sum())
        if count:
            concordant += float(auroc(score[alive], here)) * count
            pairs += count
    return concordant / pairs if pairs else float("nan")


def clock(good: np.ndarray, there: np.ndarray) -> np.ndarray:
    """(n, T), what a clock tells of each step: the share of good ones, that long after the start, of all other dreams.

    It was calibrated on these very behaviours, which trust was not: a rival that is hard to beat.
    """
    held = (good & there).astype(float)
    others = there.sum(axis=0) - there
    return np.where(others > 0, (held.sum(axis=0) - held) / np.maximum(others, 1), 0.5)


def brier_skill(told: np.ndarray, good: np.ndarray, there: np.ndarray) -> float:
    """1 less the Brier score of trust over that of ``clock``: 0 is as good as a clock, 1 knows all, below 0 worse."""
    rival = np.square(clock(good, there) - good)[there].mean()
    return float(1 - np.square(told - good)[there].mean() / rival) if rival > 0 else float("nan")


def excess(told: np.ndarray, good: np.ndarray, there: np.ndarray) -> float:
    """How much more is told than is good, on the mean over the steps that there are: 0 where trust is calibrated."""
    return float((told - good)[there].mean())
