"""Sharing out block rows: every line once, the same bits with any number of threads, errors and forks survived."""

import os
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch

from procosm.sparse import cpu, matrix
from procosm.sparse.nn import Linear
from procosm.sparse.threads import LEAST_FLOPS, spread


@pytest.fixture
def three() -> Iterator[None]:
    """Three threads for a test, however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("starts", [[0, 5], [0, 0, 0, 9], [0, 9, 9, 9], [0, 1, 2, 3, 4, 5, 6, 7], [0, 1]])
def test_every_line_once_in_parts_of_like_size(three: None, starts: list[int]) -> None:
    parts: list[tuple[int, int]] = []
    spread(lambda first, last: parts.append((first, last)), starts, LEAST_FLOPS)
    lines = [line for first, last in sorted(parts) for line in range(first, last)]
    assert lines == list(range(len(starts) - 1))
    longest = max(b - a for a, b in pairwise(starts))
    assert max(starts[last] - starts[first] for first, last in parts) <= starts[-1] / 3 + longest


def test_little_work_stays_with_the_caller(three: None) -> None:
    parts: list[tuple[int, int]] = []
    spread(lambda first, last: parts.append((first, last)), [0, 1, 2, 3], LEAST_FLOPS / 4)
    assert parts == [(0, 3)]


def test_each_part_runs_on_one_thread_and_the_caller_keeps_its_own(three: None) -> None:
    counts: list[int] = []
    spread(lambda first, last: counts.append(torch.get_num_threads()), [0, 1, 2, 3], LEAST_FLOPS)
    assert counts == [1, 1, 1]
    assert torch.get_num_threads() == 3


def test_an_error_in_a_part_reaches_the_caller(three: None) -> None:
    def fail(first: int, last: int) -> None:
        if last == 3:
            raise ArithmeticError("the last part")

    with pytest.raises(ArithmeticError, match="the last part"):
        spread(fail, [0, 1, 2, 3], LEAST_FLOPS)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_same_bits_with_any_number_of_threads(three: None, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    w = matrix.random((384, 256), 32, 0.4, generator, dtype=dtype)
    x, grad = (torch.randn(1500, side, generator=generator).to(dtype) for side in (256, 384))
    rows, cols = (~matrix.kept_of(w)).nonzero().to(torch.int32).unbind(1)

    def products() -> list[torch.Tensor]:
        return [
            cpu.forward(x, w.values, w.cols, w.row_ptr),
            cpu.data_gradient(grad, w.values, w.rows, w.perm, w.col_ptr),
            cpu.weight_gradient(grad, x, w.rows, w.cols, w.row_ptr),
            cpu.block_norms(grad, x, rows, cols, 32),
        ]

    assert 2 * 1500 * w.n * 32**2 > LEAST_FLOPS  # else this compares one thread with one thread
    shared = products()
    torch.set_num_threads(1)
    assert all(torch.equal(a, b) for a, b in zip(shared, products(), strict=True))


@pytest.mark.parametrize("inference", [False, True])
def test_layers_train_and_infer_on_shared_rows(three: None, inference: bool) -> None:
    layer = Linear(256, 256, block=32, density=0.5, mode="sparse", generator=torch.Generator().manual_seed(0))
    x = torch.randn(2000, 256, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode(inference):
        y = layer(x)
        torch.testing.assert_close(y, x @ layer.to_dense().t() + layer.bias, rtol=1e-4, atol=1e-4)
    if not inference:
        y.square().sum().backward()
        assert layer.values.grad.abs().sum() > 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_without_its_parents_threads(three: None) -> None:
    spread(lambda first, last: None, [0, 1, 2, 3], LEAST_FLOPS)
    child = os.fork()
    if child == 0:
        done: list[int] = []
        spread(lambda first, last: done.append(first), [0, 1, 2, 3], LEAST_FLOPS)
        os._exit(0 if done == [0] and torch.get_num_threads() == 1 else 1)
    assert os.waitpid(child, 0)[1] == 0
