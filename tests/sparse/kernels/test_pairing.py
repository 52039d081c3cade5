"""Half-tile pairing against the published expectation for Bernoulli masks."""

import numpy as np
import pytest
import torch

from procosm.sparse.kernels import pair_rows, pairing


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


def test_a_fixed_pattern_is_sorted_once_and_a_changed_one_anew_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    sorted_: list[torch.Tensor] = []
    monkeypatch.setattr(pairing, "pair_rows", lambda p: sorted_.append(p) or pair_rows(p))
    monkeypatch.setattr(pairing, "_kept", {})
    row_ptr = pointers(np.array([5, 1, 3, 0]))
    first = pairing.pairs_of(row_ptr)
    assert pairing.pairs_of(row_ptr) is first and len(sorted_) == 1
    assert first.tolist() == [[0, 3], [2, 1]]
    row_ptr.copy_(pointers(np.array([0, 1, 3, 5])))  # as a layer does when its blocks are exchanged
    assert pairing.pairs_of(row_ptr) is first and len(sorted_) == 2
    assert first.tolist() == [[3, 0], [2, 1]]
    other = pointers(np.array([5, 1, 3, 0]))
    assert pairing.pairs_of(other).tolist() == [[0, 3], [2, 1]] and first.tolist() == [[3, 0], [2, 1]]


def test_what_is_kept_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairing, "_kept", {})
    monkeypatch.setattr(pairing, "MOST_KEPT", 2)
    patterns = [pointers(np.arange(n)) for n in (3, 4, 5)]
    for row_ptr in patterns:
        assert torch.equal(pairing.pairs_of(row_ptr), pair_rows(row_ptr))
    assert len(pairing._kept) == 2
