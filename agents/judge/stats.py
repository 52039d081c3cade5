"""What agreement between dream and truth is measured by. Every statistic reduces the last axis, so that
``agents.intervals.interval`` can draw its items again: ``interval(spearman, real, dreamed, method="bca")``.

Arguments are (…, n): one score of each of n policies, ``real`` in the truth env and ``dreamed`` in the world model.
"""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from scipy.stats import rankdata
from scipy.stats import t as student

from procosm.agents.judge.intervals import Estimate, estimate


def pearson(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Linear correlation, (…); nan where either does not vary."""
    x, y = x - x.mean(axis=-1, keepdims=True), y - y.mean(axis=-1, keepdims=True)
    return _cosine(x, y)


def spearman(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Rank correlation, (…): Pearson's of the ranks, equal values sharing their mean rank."""
    return pearson(rankdata(x, axis=-1), rankdata(y, axis=-1))


def kendall(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Kendall's τ-b, (…): pairs in the same order less pairs in opposite order, corrected for ties."""
    dx, dy = (np.sign(each[..., :, None] - each[..., None, :]) for each in (x, y))
    flat = (*np.shape(x)[:-1], -1)
    return _cosine(dx.reshape(flat), dy.reshape(flat))


def normalised(real: np.ndarray, dreamed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both scores in units of the real panel: 0 is its worst policy and 1 its best. Dreamed scores may lie outside.

    Raises:
        ValueError: every real score is the same, so there is nothing to rank.
    """
    low, high = np.min(real), np.max(real)
    if not high > low:
        raise ValueError(f"all {np.size(real)} real scores are {low}: a panel needs policies that differ")
    return (real - low) / (high - low), (dreamed - low) / (high - low)


def mmrv(real: np.ndarray, dreamed: np.ndarray) -> np.ndarray:
    """Mean maximum rank violation, (…), of ``normalised`` scores; 0 is a perfect ranking (SIMPLER, arXiv 2405.05941).

    For each policy the largest real gap to another that the dream puts in the wrong order; the mean over policies.
    """
    gap = np.abs(real[..., :, None] - real[..., None, :])
    wrong = (dreamed[..., :, None] < dreamed[..., None, :]) != (real[..., :, None] < real[..., None, :])
    return (gap * wrong).max(axis=-1).mean(axis=-1)


def top_k(real: np.ndarray, dreamed: np.ndarray, k: int = 1) -> np.ndarray:
    """Share, (…), of the dream's k best policies whose real score reaches that of the k-th best real policy."""
    chosen = np.take_along_axis(real, _best(dreamed, k), axis=-1)
    bar = np.take_along_axis(real, _best(real, k), axis=-1).min(axis=-1, keepdims=True)
    return (chosen >= bar).mean(axis=-1)


def regret(real: np.ndarray, dreamed: np.ndarray, k: int = 1) -> np.ndarray:
    """What is lost, (…), by keeping only the dream's k best policies: best real score less the best kept one."""
    kept = np.take_along_axis(real, _best(dreamed, k), axis=-1)
    return real.max(axis=-1) - kept.max(axis=-1)


def bias(real: np.ndarray, dreamed: np.ndarray) -> np.ndarray:
    """How much the dream promises too much (positive) or too little, (…)."""
    return (dreamed - real).mean(axis=-1)


def auroc(score: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Chance, (…), that an item with label 1 scores above one with label 0, ties half; nan where a label is missing."""
    label = label > 0.5
    positives = label.sum(axis=-1)
    negatives = label.shape[-1] - positives
    above = np.where(label, rankdata(score, axis=-1), 0.0).sum(axis=-1) - positives * (positives + 1) / 2
    pairs = positives * negatives
    return np.where(pairs > 0, above / np.maximum(pairs, 1), np.nan)


def paired_difference(first: np.ndarray, second: np.ndarray, seed: int = 0) -> Estimate:
    """Mean of first − second over n pairs, (n,) each, with its 95 % interval.

    Raises:
        ValueError: they are not pairs.
    """
    if np.shape(first) != np.shape(second):
        raise ValueError(f"{np.shape(first)} and {np.shape(second)} values are not pairs")
    return estimate(np.asarray(first, np.float64) - np.asarray(second, np.float64), seed)


def _cosine(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    size = np.sqrt(np.square(x).sum(axis=-1) * np.square(y).sum(axis=-1))
    # A row of equal numbers less its mean leaves rounding, not zero.
    varies = (np.ptp(x, axis=-1) > 0) & (np.ptp(y, axis=-1) > 0)
    return np.where(varies, (x * y).sum(axis=-1) / np.where(varies, size, 1.0), np.nan)


def _best(scores: np.ndarray, k: int) -> np.ndarray:
    """(…, k) indices of the k highest; of equal ones the first."""
    return np.argsort(-scores, axis=-1, kind="stable")[..., :k]


def t_interval(values: Sequence[float]) -> dict[str, float]:
    """A row's ``value``, the mean, with n and Student's 95 % interval of the mean; a single value has no interval."""
    n, value = len(values), statistics.fmean(values)
    if n == 1:
        return {"value": value, "n": n}
    half = float(student.ppf(0.975, n - 1)) * statistics.stdev(values) / math.sqrt(n)
    return {"value": value, "low": value - half, "high": value + half, "n": n}
