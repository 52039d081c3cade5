"""Means, covariances and deviations of numbers that come in parts, because together they would not fit into memory.

Every function goes through its parts once or twice and keeps none of them. Of a single part the results are those of
torch's functions on it.
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def mean_and_covariance(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """(d,) mean and (d, d) covariance of n vectors, float64, from parts (k, …) with d numbers in a row.

    In two passes, the second about the mean: in one, large means would leave no digits to small variances.
    """
    count, total = 0, torch.zeros((), dtype=torch.float64)
    for flat in _rows(parts):
        count, total = count + len(flat), total.to(flat.device) + flat.sum(0)
    mean = total / count
    squares = torch.zeros((), dtype=torch.float64, device=mean.device)
    for flat in _rows(parts):
        centred = flat - mean
        squares = squares + centred.T @ centred
    return mean, squares / (count - 1)


def _rows(parts: Iterable[Tensor]) -> Iterable[Tensor]:
    return (part.flatten(1).double() for part in parts)


def pooled_deviation(counts: list[int], means: list[Tensor], deviations: list[Tensor]) -> Tensor:
    """The standard deviation of all numbers, from how many each part has, and their mean and standard deviation there.

    The squares about the common mean are those about each part's own and those of the parts' means about it (Chan,
    Golub and LeVeque, The American Statistician 37, 1983).
    """
    n = torch.tensor(counts, dtype=torch.float64, device=means[0].device).view(-1, *[1] * means[0].ndim)
    m, s = torch.stack(means).double(), torch.stack(deviations).double()
    apart = m - (n * m).sum(0) / n.sum()
    squares = (s.square() * (n - 1) + n * apart.square()).sum(0)
    return (squares / (n.sum() - 1)).sqrt().to(deviations[0].dtype)
