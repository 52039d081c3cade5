"""Intervals of independent items: Student's t for a mean of few, else the bootstrap.

Percentile, BCa (Efron & Tibshirani 1993, §13.3, §14.3), basic (Davison & Hinkley 1997).
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import t as student

RESAMPLES = 2000
LEVEL = 0.95
MANY = 50
"""Values whose mean a bootstrap holds better than Student's t, where they are crowded at one end; with fewer, worse."""
CHUNK = 100
"""Resamples that a statistic is given at once: one that compares all pairs needs n² numbers for each."""

Statistic = Callable[..., np.ndarray]
"""Takes arrays (…, n), whose last axis is the sample, and gives (…)."""


@dataclass(frozen=True)
class Estimate:
    """A mean and how far to trust it.

    Attributes:
        mean, std: of the n values; std with n − 1, 0 for one value.
        low, high: 95 % interval of the mean.
        n: how many values.
    """

    mean: float
    std: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float]:
        """The fields by name, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class Interval:
    """Any statistic of n values, and the 95 % bootstrap interval around it."""

    value: float
    low: float
    high: float
    n: int

    def as_dict(self) -> dict[str, float]:
        """The fields by name, for the row of a result."""
        return asdict(self)


def estimate(values: np.ndarray, seed: int = 0, least: float = -np.inf) -> Estimate:
    """Mean, deviation and 95 % interval of independent values: Student's t of few, BCa from ``MANY`` up.

    ``least`` is what no value can be below, and so no mean.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    found = interval(lambda x: x.mean(axis=-1), values, seed=seed, method="bca")
    deviation = float(np.std(values, ddof=1)) if found.n > 1 else 0.0
    low, high = found.low, found.high
    if 1 < found.n < MANY:
        half = float(student.ppf((1 + LEVEL) / 2, found.n - 1)) * deviation / found.n**0.5
        low, high = found.value - half, found.value + half
    return Estimate(found.value, deviation, max(low, min(least, found.value)), high, found.n)


def proportion(successes: np.ndarray) -> Interval:
    """The share of n independent trials that succeeded, (n,) bool, with Wilson's 95 % interval.

    It has a width where all of them did, or none, too (Brown, Cai & DasGupta, Statistical Science 2001).

    Raises:
        ValueError: no trials.
    """
    n = len(successes)
    if not n:
        raise ValueError("of no trials there is no share")
    share, z = float(np.mean(successes)), float(ndtri((1 + LEVEL) / 2))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * (share * (1 - share) / n + z**2 / (4 * n**2)) ** 0.5
    return Interval(share, max(0.0, min(middle - half, share)), min(1.0, max(middle + half, share)), n)


def interval(
    statistic: Statistic,
    *samples: np.ndarray,
    seed: int = 0,
    method: Literal["percentile", "bca", "basic"] = "percentile",
) -> Interval:
    """A statistic of independent items, with its 95 % bootstrap interval.

    Args:
        statistic: of one array or several; called with (r, n) arrays, it gives (r,).
        samples: (n,) each; entry i of all of them is one item, and items are drawn together.
        seed: of the resampling.
        method: ``bca`` follows skewed statistics such as correlations more closely; it needs one that varies smoothly.
            ``basic`` is for those that every resampling pushes up, such as a distance between two clouds of points.

    Resamples on which the statistic has no value (a correlation where nothing varies) are left out.

    Raises:
        ValueError: samples of several lengths, empty, or with numbers that are not finite; a statistic without a value.
    """
    rows = [np.asarray(each, dtype=np.float64) for each in samples]
    n = len(rows[0]) if rows[0].ndim else 0
    if not n or any(row.shape != (n,) or not np.isfinite(row).all() for row in rows):
        raise ValueError(f"an interval needs rows of finite values, equally many, got {[row.shape for row in rows]}")
    value = float(statistic(*(row[None] for row in rows))[0])
    again = _evaluate(statistic, rows, resamples(n, seed))
    if not np.isfinite(value) or not len(again):
        raise ValueError(f"the statistic of these {n} values is {value}: it has no interval")
    tails = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    if method == "bca" and n > 1:
        tails = _corrected(tails, value, again, _evaluate(statistic, rows, _without_one(n)))
    low, high = np.percentile(again, 100 * tails)
    if method == "basic":
        low, high = 2 * value - high, 2 * value - low
    return Interval(value, float(low), float(high), n)


def resamples(n: int, seed: int) -> np.ndarray:
    """(RESAMPLES, n) indices drawn with replacement; the same for the same n and seed."""
    return np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))


def _evaluate(statistic: Statistic, rows: list[np.ndarray], indices: np.ndarray) -> np.ndarray:
    """The statistic for each row of (r, k) indices, where it has a value."""
    found = [statistic(*(row[part] for row in rows)) for part in np.split(indices, range(CHUNK, len(indices), CHUNK))]
    values = np.concatenate(found)
    return values[np.isfinite(values)]


def _without_one(n: int) -> np.ndarray:
    """(n, n − 1) indices: row i is everything but i."""
    everything = np.tile(np.arange(n), (n, 1))
    return everything[~np.eye(n, dtype=bool)].reshape(n, n - 1)


def _corrected(tails: np.ndarray, value: float, again: np.ndarray, jackknife: np.ndarray) -> np.ndarray:
    """BCa's tail probabilities (eq. 14.10): shifted by the median's bias (14.14) and the skewness (14.15)."""
    below = ((again < value).mean() + (again <= value).mean()) / 2
    # With all resamples on one side there is no finite bias to correct.
    bias = ndtri(np.clip(below, 1 / (2 * len(again)), 1 - 1 / (2 * len(again))))
    apart = jackknife.mean() - jackknife
    spread = np.square(apart).sum()
    skew = (apart**3).sum() / (6 * spread**1.5) if spread > 0 else 0.0
    shifted = bias + ndtri(tails)
    return ndtr(bias + shifted / (1 - skew * shifted))
