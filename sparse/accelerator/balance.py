"""Waves and half-tiles: who waits for whom, before and after balancing (procrustes.md 2.4, accelerator.md formula 9).

A wave is the set of U distinct sparse tiles the array holds at once. Unbalanced it lasts as long as its fullest tile.
Balanced, each tile is cut into two half-tiles, the 2U half-tiles are sorted by non-zeros, the i-th is paired with the
(2U-1-i)-th, and the wave lasts as long as its fullest pair.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from procosm.sparse.accelerator.problem import Problem


def split_dim(problem: Problem, rf: tuple[int, ...], spatial: tuple[int, ...]) -> int | None:
    """The dimension along which a PE's sparse tile is cut in two, or None when it cannot be.

    One spatially mapped dimension of the sparse operand: that one, if its factor is even. Two: the largest even factor
    of any dimension, the first on a tie.
    """
    dims = problem.sparse_dims
    mapped = [dim for dim in dims if spatial[dim] > 1]
    if len(mapped) == 1:
        return mapped[0] if rf[mapped[0]] % 2 == 0 else None
    if len(mapped) == 2:
        even = [dim for dim in dims if rf[dim] % 2 == 0]
        return max(even, key=lambda dim: rf[dim], default=None)  # max keeps the first of equals
    return None


def tile_counts(mask: np.ndarray, tile: tuple[int, ...]) -> np.ndarray:
    """Non-zeros of every tile of a mask: shape mask.shape / tile."""
    counts = mask.view(np.uint8) if mask.dtype == bool else mask
    for axis, size in enumerate(tile):
        if size > 1:
            counts = _summed(counts, axis, size)
    return counts.astype(np.int32, copy=False)


def _summed(counts: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Sum groups of `size` neighbours along an axis; strided slices beat a reduction over a short last axis."""
    ahead, behind = math.prod(counts.shape[:axis]), math.prod(counts.shape[axis + 1 :])
    grouped = counts.reshape(ahead, counts.shape[axis] // size, size, behind)
    if behind == 1 and size > 32:
        total = grouped[..., 0].sum(axis=2, dtype=np.int32)
    else:
        total = grouped[:, :, 0].astype(np.int32)
        for index in range(1, size):
            total += grouped[:, :, index]
    return total.reshape(*counts.shape[:axis], counts.shape[axis] // size, *counts.shape[axis + 1 :])


@dataclass(frozen=True)
class Loads:
    """Non-zeros each of the U PEs groups processes per wave, arrays (waves, U); `balanced` is None without a split."""

    volume: int
    """Elements of a PE's dense sparse tile."""
    unbalanced: np.ndarray
    balanced: np.ndarray | None

    def of(self, balancing: bool) -> np.ndarray:
        return self.balanced if balancing and self.balanced is not None else self.unbalanced

    def inverse_speedup(self, balancing: bool) -> float:
        """Cycles relative to a dense machine: mean over waves of the fullest load, over the tile's volume."""
        slowest = self.of(balancing).max(axis=1) / self.volume
        return 1 / (len(slowest) / float(np.add.accumulate(slowest)[-1])) if slowest.any() else 0.0

    def imbalance(self, balancing: bool) -> np.ndarray:
        """Per wave, fullest load over mean load; waves without a non-zero are left out."""
        loads = self.of(balancing)
        mean = loads.mean(axis=1)
        return loads.max(axis=1)[mean > 0] / mean[mean > 0]

    def overflow(self, balancing: bool, budget: int) -> int:
        """Non-zeros that do not fit the words left for the sparse operand, summed over waves and PEs."""
        return int(np.maximum(self.of(balancing).astype(np.int64) - budget, 0).sum())


def pair(halves: np.ndarray) -> np.ndarray:
    """Fold sorted half-tile counts (waves, 2U) into U pair sums: fullest with emptiest."""
    ranked = np.sort(halves, axis=1)
    half = ranked.shape[1] // 2
    return ranked[:, :half] + ranked[:, : half - 1 : -1]


def loads(mask: np.ndarray, problem: Problem, rf: tuple[int, ...], spatial: tuple[int, ...]) -> Loads:
    """Count a mask's non-zeros wave by wave for a register-file tile and a spatial split.

    A dimension the register file holds whole may have been summed already: its axis then has length 1.
    """
    dims = problem.sparse_dims
    cut = split_dim(problem, rf, spatial)
    half = tuple(
        rf[dim] // 2 if dim == cut else min(rf[dim], length) for dim, length in zip(dims, mask.shape, strict=True)
    )
    counts = tile_counts(mask, half)
    shape: list[int] = []
    for dim, size in zip(dims, counts.shape, strict=True):
        inner = spatial[dim] * (2 if dim == cut else 1)
        shape += [size // inner, spatial[dim], 2 if dim == cut else 1]
    axes = len(dims)
    order = [3 * a for a in range(axes)] + [3 * a + 1 for a in range(axes)] + [3 * a + 2 for a in range(axes)]
    waves = math.prod(shape[0::3])
    halves = counts.reshape(shape).transpose(order).reshape(waves, math.prod(shape[1::3]), -1)
    volume = math.prod(rf[dim] for dim in dims)
    balanced = pair(halves.reshape(waves, -1)) if cut is not None else None
    return Loads(volume, halves.sum(axis=2), balanced)
