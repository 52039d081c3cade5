"""The format against dense tensors and NumPy's own sort orders."""

import dataclasses

import numpy as np
import pytest
import torch

from procosm.sparse import matrix
from procosm.sparse.errors import SparseError

GRIDS = [(1, 1), (3, 5), (8, 2)]


def make(grid: tuple[int, int], density: float, spare: int = 0, block: int = 16) -> matrix.BlockSparse:
    shape = (grid[0] * block, grid[1] * block)
    capacity = min(grid[0] * grid[1], round(density * grid[0] * grid[1]) + spare)
    return matrix.random(shape, block, density, torch.Generator().manual_seed(3), capacity)


@pytest.mark.parametrize("grid", GRIDS)
@pytest.mark.parametrize("density", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("spare", [0, 4])
def test_round_trip_and_invariants(grid: tuple[int, int], density: float, spare: int) -> None:
    sparse = make(grid, density, spare)
    matrix.validate(sparse)
    dense = matrix.to_dense(sparse)
    kept = matrix.kept_of(sparse)
    assert sparse.n == int(kept.sum()) == round(density * grid[0] * grid[1])
    again = matrix.from_dense(dense, kept, 16, sparse.capacity)
    for field in dataclasses.fields(sparse):
        assert np.array_equal(getattr(sparse, field.name), getattr(again, field.name)), field.name
    mask = np.kron(kept.numpy(), np.ones((16, 16), bool))
    assert not dense.numpy()[~mask].any() and (dense.numpy()[mask] != 0).all()


def test_orders_are_those_of_numpy_lexsort() -> None:
    sparse = make((8, 5), 0.4, spare=3)
    rows, cols = np.nonzero(matrix.kept_of(sparse).numpy())
    n = sparse.n
    assert np.array_equal(sparse.rows[:n], rows) and np.array_equal(sparse.cols[:n], cols)
    assert np.array_equal(sparse.perm[:n], np.lexsort((rows, cols)))
    assert np.array_equal(sparse.row_ptr, np.searchsorted(rows, np.arange(9)))
    assert np.array_equal(sparse.col_ptr, np.searchsorted(np.sort(cols), np.arange(6)))
    assert np.array_equal(sparse.perm[n:], np.arange(n, sparse.capacity))


def test_sources_follow_each_block_to_its_new_slot() -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(96, 64, generator=generator)
    before, after = (matrix.random_kept((96, 64), 16, d, generator) for d in (0.5, 0.6))
    old, new = (matrix.from_dense(weight, kept, 16, capacity=20) for kept in (before, after))
    source = matrix.sources(old, new)
    assert ((source >= 0).sum()) == (before & after).sum()
    carried = dataclasses.replace(new, values=matrix.carry(old.values, source))
    both = (before & after).repeat_interleave(16, 0).repeat_interleave(16, 1)
    assert torch.equal(matrix.to_dense(carried), weight * both)


@pytest.mark.parametrize("grid", [(1, 1), (3, 5), (8, 2), (4, 6), (32, 8), (8, 32)])
def test_a_balanced_pattern_gives_every_line_its_share(grid: tuple[int, int]) -> None:
    gm, gn = grid
    for n in range(1, gm * gn + 1):
        kept = matrix.balanced_kept((gm * 16, gn * 16), 16, n / (gm * gn), torch.Generator().manual_seed(n))
        assert int(kept.sum()) == n
        for counts in (kept.sum(0), kept.sum(1)):
            assert int(counts.max() - counts.min()) <= 1
            assert (counts[: min(n, len(counts))] > 0).all()  # what must stay empty lies at the end
    other = matrix.balanced_kept((128, 512), 16, 0.1, torch.Generator().manual_seed(1))
    assert not torch.equal(other, matrix.balanced_kept((128, 512), 16, 0.1, torch.Generator().manual_seed(2)))


def test_random_is_reproducible_from_its_generator() -> None:
    assert torch.equal(matrix.to_dense(make((3, 5), 0.5)), matrix.to_dense(make((3, 5), 0.5)))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: matrix.grid_of((96, 96), 24), "choose one of"),
        (lambda: matrix.grid_of((96, 96), 64), "use block=32"),
        (lambda: matrix.grid_of((100, 96), 64), "leave it dense"),
        (lambda: matrix.random((32, 32), 16, 1.5), "outside"),
        (lambda: matrix.from_dense(torch.ones(32, 32), torch.ones(3, 2, dtype=torch.bool), 16), "one entry a block"),
        (lambda: matrix.from_dense(torch.ones(32, 32), torch.ones(2, 2, dtype=torch.bool), 16, 3), "does not hold"),
    ],
)
def test_bad_input_says_what_to_do(call, message: str) -> None:
    with pytest.raises(SparseError, match=message):
        call()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("rows", torch.zeros(4), "int32"),
        ("cols", torch.flip(torch.arange(4, dtype=torch.int32), [0]), "row-major"),
        ("values", torch.ones(4, 16, 16).transpose(1, 2), "contiguous"),
        ("row_ptr", torch.tensor([0, 9, 9], dtype=torch.int32), "live blocks"),
    ],
)
def test_validate_names_the_broken_invariant(field: str, value: torch.Tensor, message: str) -> None:
    sparse = matrix.random((32, 32), 16, 1.0)
    with pytest.raises(SparseError, match=message):
        matrix.validate(dataclasses.replace(sparse, **{field: value}))


def test_padding_must_be_zero() -> None:
    sparse = make((3, 5), 0.3, spare=2)
    sparse.values[-1] = 1.0
    with pytest.raises(SparseError, match="padding"):
        matrix.validate(sparse)
