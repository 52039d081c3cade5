"""Half-tile pairing against the published expectation for Bernoulli masks."""

import numpy as np
import pytest
import torch

from procosm.sparse.kernels import pair_rows


def pointers(lengths: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.concatenate([[0], np.cumsum(lengths)])).to(torch.int32)


def imbalance(lengths: np.ndarray) -> tuple[float, float]:
    """max / mean of the blocks a CTA gets: one row, and one pair. 1.0 is perfect balance."""
    pairs = pair_rows(pointers(lengths)).numpy()
    paired = np.where(pairs >= 0, lengths[pairs], 0).sum(1)
    return lengths.max() / lengths.mean(), paired.max() / paired.mean()


@pytest.mark.parametrize("rows", [1, 2, 7, 16])
def test_every_row_appears_once_heavy_with_light(rows: int) -> None:
    lengths = np.random.default_rng(rows).integers(0, 20, rows)
    pairs = pair_rows(pointers(lengths)).numpy()
    assert sorted(pairs[pairs >= 0]) == list(range(rows)) and (pairs[:, 0] >= 0).all()
    heavy = lengths[pairs[:, 0]]
    light = np.where(pairs[:, 1] >= 0, lengths[pairs[:, 1]], -1)
    assert (np.diff(heavy) <= 0).all() and (np.diff(light[light >= 0]) >= 0).all() and (heavy >= light).all()


@pytest.mark.parametrize(
    ("processors", "tile", "density", "before", "after"),
    [(16, 64, 0.1, 1.71, 1.22), (16, 144, 0.1, 1.46, 1.12), (16, 576, 0.1, 1.23, 1.05), (256, 256, 0.2, 1.37, 1.05)],
)
def test_imbalance_of_bernoulli_masks(processors: int, tile: int, density: float, before: float, after: float) -> None:
    # Reference values: procrustes, expected max / mean of tiles on processors without and with half-tile balancing,
    # where each processor's tile is two halves. Here a row is half a tile and a pair a processor.
    draws = np.random.default_rng(0).binomial(tile // 2, density, (200, 2 * processors))
    found = [imbalance(lengths) for lengths in draws]
    whole = [np.max(w) / np.mean(w) for w in draws.reshape(200, processors, 2).sum(2)]
    assert np.mean(whole) == pytest.approx(before, rel=0.03)
    assert np.mean([f[1] for f in found]) == pytest.approx(after, rel=0.03)
    assert all(f[1] <= f[0] for f in found)
