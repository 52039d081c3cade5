"""Means with percentile-bootstrap intervals (Efron & Tibshirani 1993, §13.3)."""

from dataclasses import asdict, dataclass

import numpy as np

RESAMPLES = 2000


@dataclass(frozen=True)
class Estimate:
    """A mean and how far to trust it.

    Attributes:
        mean, std: of the n values; std with n − 1, 0 for one value.
        low, high: 95 % bootstrap interval of the mean.
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


def estimate(values: np.ndarray, seed: int = 0) -> Estimate:
    """Mean, deviation and 95 % interval of independent values.

    Raises:
        ValueError: no values, or one that is not finite.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        raise ValueError(f"an interval needs a row of finite values, got shape {values.shape}")
    means = values[resamples(len(values), seed)].mean(axis=1)
    low, high = np.percentile(means, (2.5, 97.5))
    deviation = float(values.std(ddof=1)) if len(values) > 1 else 0.0
    return Estimate(float(values.mean()), deviation, float(low), float(high), len(values))


def resamples(n: int, seed: int) -> np.ndarray:
    """(RESAMPLES, n) indices drawn with replacement; the same for the same n and seed."""
    return np.random.default_rng(seed).integers(n, size=(RESAMPLES, n))
