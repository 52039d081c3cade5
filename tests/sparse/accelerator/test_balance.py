"""Waves and half-tiles: against loops over the mask, and against the expected imbalance of Bernoulli masks."""

import itertools
import math

import numpy as np
import pytest

from procosm.sparse.accelerator.balance import loads, pair, split_dim, tile_counts
from procosm.sparse.accelerator.loadmodel import bernoulli_estimate
from procosm.sparse.accelerator.masks import bernoulli
from procosm.sparse.accelerator.problem import Problem, Shape

RNG = np.random.default_rng(7)


def test_tile_counts_against_slices():
    mask = RNG.random((3, 4, 6, 70)) < 0.3
    tile = (3, 2, 3, 35)
    counts = tile_counts(mask, tile)
    for at in itertools.product(*(range(n) for n in counts.shape)):
        window = tuple(slice(i * t, (i + 1) * t) for i, t in zip(at, tile, strict=True))
        assert counts[at] == mask[window].sum()


@pytest.mark.parametrize("spatial", [(1, 1, 1, 1, 2, 1, 4), (1, 1, 1, 1, 2, 3, 1), (1, 1, 2, 2, 1, 1, 1)])
def test_loads_against_a_walk_over_waves(spatial):
    problem = Problem(Shape.FORWARD, (1, 3, 4, 4, 16, 12, 8))
    rf = (1, 3, 1, 1, 4, 2, 1)
    mask = RNG.random(problem.mask_shape) < 0.4
    load = loads(mask, problem, rf, spatial)
    cut = split_dim(problem, rf, spatial)
    reach = [rf[d] * spatial[d] for d in problem.sparse_dims]
    waves = list(itertools.product(*(range(0, n, step) for n, step in zip(mask.shape, reach, strict=True))))
    assert load.unbalanced.shape == (len(waves), math.prod(spatial[d] for d in problem.sparse_dims))
    for wave, base in enumerate(waves):
        tiles, halves = [], []
        for pe in itertools.product(*(range(spatial[d]) for d in problem.sparse_dims)):
            low = [b + i * rf[d] for b, i, d in zip(base, pe, problem.sparse_dims, strict=True)]
            tile = mask[tuple(slice(at, at + rf[d]) for at, d in zip(low, problem.sparse_dims, strict=True))]
            tiles.append(int(tile.sum()))
            if cut is not None:
                halves += [int(part.sum()) for part in np.split(tile, 2, axis=problem.sparse_dims.index(cut))]
        assert load.unbalanced[wave].tolist() == tiles
        if cut is not None:
            halves.sort(reverse=True)
            pairs = [halves[i] + halves[-1 - i] for i in range(len(halves) // 2)]
            assert sorted(load.balanced[wave].tolist()) == sorted(pairs)
    assert load.inverse_speedup(False) == pytest.approx(load.unbalanced.max(axis=1).mean() / load.volume)
    assert load.overflow(False, 3) == sum(max(0, int(v) - 3) for v in load.unbalanced.ravel())


def test_which_dimension_is_cut():
    problem = Problem(Shape.FORWARD, (3, 3, 4, 4, 64, 64, 64))
    one, two = (1, 1, 1, 1, 16, 1, 16), (1, 1, 1, 1, 16, 16, 1)
    assert split_dim(problem, (3, 3, 1, 1, 4, 8, 1), one) == 4  # the mapped one, not the largest
    assert split_dim(problem, (3, 3, 1, 1, 1, 8, 1), one) is None
    assert split_dim(problem, (3, 3, 1, 1, 2, 4, 1), two) == 5  # the largest even
    assert split_dim(problem, (3, 3, 1, 1, 4, 4, 1), two) == 4  # the first of equals
    assert split_dim(problem, (3, 3, 1, 1, 4, 4, 1), (1, 1, 4, 4, 1, 1, 1)) is None


def test_pairing_moves_work_but_keeps_it():
    halves = RNG.integers(0, 50, (200, 32))
    folded = pair(halves)
    np.testing.assert_array_equal(folded.sum(axis=1), halves.sum(axis=1))
    assert (folded.max(axis=1) <= 2 * halves.max(axis=1)).all()
    assert (folded.max(axis=1) <= halves.reshape(200, 16, 2).sum(axis=2).max(axis=1)).mean() > 0.95


TABLE = [  # procrustes.md 2.4: PEs in a wave, tile, density, mean (99th percentile) without and with half-tiles
    (16, 64, 0.1, 1.71, 2.34, 1.22, 1.72),
    (16, 144, 0.1, 1.46, 1.88, 1.12, 1.39),
    (16, 256, 0.1, 1.34, 1.64, 1.08, 1.29),
    (16, 576, 0.1, 1.23, 1.44, 1.05, 1.16),
    (16, 144, 0.2, 1.31, 1.60, 1.07, 1.25),
    (32, 144, 0.1, 1.55, None, 1.13, None),
    (256, 144, 0.1, 1.78, None, 1.19, None),
    (256, 256, 0.2, 1.37, None, 1.05, None),
]


@pytest.mark.parametrize(("pes", "tile", "density", "mean", "high", "balanced_mean", "balanced_high"), TABLE)
def test_imbalance_of_bernoulli_masks(pes, tile, density, mean, high, balanced_mean, balanced_high):
    waves = 1200 if pes < 256 else 150
    per_pe = tile // 2
    problem = Problem(Shape.FORWARD, (1, 1, 1, 1, 2 * pes, per_pe * waves, 1))
    mask = bernoulli(problem.mask_shape, density, seed=11)
    load = loads(mask, problem, (1, 1, 1, 1, 2, per_pe, 1), (1, 1, 1, 1, pes, 1, 1))
    assert load.volume == tile and load.unbalanced.shape == (waves, pes)
    for balancing, expected, tail in ((False, mean, high), (True, balanced_mean, balanced_high)):
        values = load.imbalance(balancing)
        error = values.std() / math.sqrt(waves)
        assert abs(values.mean() - expected) < 0.005 + 4 * error  # the table is rounded to 0.01
        if tail is not None:
            spread = 4 * math.sqrt(0.99 * 0.01 / waves)  # of the rank of a 99th percentile
            low, up = np.quantile(values, [0.99 - spread, min(1.0, 0.99 + spread)])
            assert low - 0.005 <= tail <= up + 0.005


def test_the_estimate_of_a_search_agrees_with_a_counted_mask():
    problem = Problem(Shape.FORWARD, (1, 1, 1, 1, 32, 72 * 600, 1))
    load = loads(bernoulli(problem.mask_shape, 0.1, 3), problem, (1, 1, 1, 1, 2, 72, 1), (1, 1, 1, 1, 16, 1, 1))
    estimate = bernoulli_estimate(16, 144, True, 0.1)
    assert estimate.inverse_speedup == pytest.approx(load.inverse_speedup(True), rel=0.02)
    budget = np.array([14, 18])
    counted = [load.overflow(True, int(b)) / load.balanced.size for b in budget]
    np.testing.assert_allclose(estimate.overflow(budget), counted, rtol=0.1, atol=0.01)
    assert (estimate.overflow(np.array([0, 10**6])) == [pytest.approx(14.4, rel=0.01), 0]).all()
