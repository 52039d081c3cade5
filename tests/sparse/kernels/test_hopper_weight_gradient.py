"""hopper_weight_gradient.cu and sum_shares.cu against float64 dense: on the CPU by their own source, or on a GPU."""

from collections.abc import Callable

import pytest
import torch

from procosm.sparse import kernels, matrix
from procosm.sparse.kernels import hopper_weight_gradient as binding
from tests.sparse.kernels.host_device import HostDevice
from tests.sparse.kernels.test_hopper_forward import CASES
from tests.sparse.oracle import blocks_of, close

LONG_ROWS = {"block": 64, "grid": (2, 12), "density": 0.9, "tokens": 130}  # runs of 8 and what is left of a row


@pytest.mark.parametrize("case", [*CASES, LONG_ROWS])
def test_hopper_weight_gradient(problem: Callable, on_hopper: Callable, case: dict) -> None:
    p = problem(**{"dtype": torch.bfloat16, **case})
    w = p.weight
    operands = [on_hopper(t) for t in (p.grad, p.x, w.rows, w.cols, w.row_ptr)]
    got = [kernels.weight_gradient(*operands).cpu() for _ in range(2)]
    if w.n:
        close(got[0], blocks_of(p.grad.double().t() @ p.x.double(), w), blocks_of(p.grad.t() @ p.x, w))
    assert not got[0][w.n :].any() and torch.equal(*got)


@pytest.mark.parametrize("block", [64, 128])
@pytest.mark.parametrize(("processors", "chunk_bytes"), [(1, 1), (2, 1 << 30), (7, 1 << 19), (40, 1 << 30)])
def test_any_number_of_shares_and_chunks_gives_the_gradient(
    problem: Callable,
    hopper: HostDevice,
    monkeypatch: pytest.MonkeyPatch,
    processors: int,
    chunk_bytes: int,
    block: int,
) -> None:
    monkeypatch.setattr(binding, "LEAST_LOADS", 1)
    monkeypatch.setattr(binding, "CHUNK_BYTES", chunk_bytes)
    p = problem(**LONG_ROWS | {"tokens": 300, "block": block}, dtype=torch.bfloat16)
    w, grad, x, results = p.weight, p.grad.contiguous(), p.x.contiguous(), []
    hopper.processors = processors
    for hopper.order in range(4):
        results.append(kernels.weight_gradient(grad, x, w.rows, w.cols, w.row_ptr))
    close(results[0], blocks_of(p.grad.double().t() @ p.x.double(), w), blocks_of(p.grad.t() @ p.x, w))
    assert all(torch.equal(results[0], other) for other in results[1:])
    assert hopper.names == ["hopper_weight_gradient", "sum_shares"] * 4


def test_empty_and_long_rows_are_shared_alike(problem: Callable, hopper: HostDevice) -> None:
    p = problem(block=64, tokens=200, grid=(6, 20), dtype=torch.bfloat16)
    kept = torch.zeros(6, 20, dtype=torch.bool)
    kept[1], kept[4, 3] = True, True  # 20 blocks are three groups of 6, 7 and 7; four rows have none
    w = matrix.from_dense(torch.zeros(6 * 64, 20 * 64, dtype=torch.bfloat16), kept, 64, 25)
    got = kernels.weight_gradient(p.grad.contiguous(), p.x.contiguous(), w.rows, w.cols, w.row_ptr)
    close(got, blocks_of(p.grad.double().t() @ p.x.double(), w), blocks_of(p.grad.t() @ p.x, w))
    assert not got[w.n :].any()
