"""weight_gradient.cu against float64 dense: on the CPU by its own source, on a GPU where one is."""

from collections.abc import Callable

import pytest
import torch

from procosm.sparse import kernels
from procosm.sparse.errors import SparseError
from tests.sparse.kernels.host_device import HostDevice
from tests.sparse.kernels.test_forward import CASES
from tests.sparse.oracle import blocks_of, close


@pytest.mark.parametrize("case", CASES)
def test_weight_gradient(problem: Callable, place: Callable, case: dict) -> None:
    p = problem(**{"dtype": torch.bfloat16, **case})
    w = p.weight
    operands = [place(t) for t in (p.grad, p.x, w.rows, w.cols, w.row_ptr)]
    got = [kernels.weight_gradient(*operands).cpu() for _ in range(2)]
    if w.n:
        close(got[0], blocks_of(p.grad.double().t() @ p.x.double(), w), blocks_of(p.grad.t() @ p.x, w))
    assert not got[0][w.n :].any() and torch.equal(*got)


def test_any_order_of_threads_gives_the_same_bits(problem: Callable, host: HostDevice) -> None:
    p = problem(block=32, dtype=torch.bfloat16)
    w, results = p.weight, []
    for host.order in range(4):
        results.append(kernels.weight_gradient(p.grad.contiguous(), p.x.contiguous(), w.rows, w.cols, w.row_ptr))
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_bad_operands_say_what_to_do(problem: Callable, host: HostDevice) -> None:
    p = problem()
    w, grad, x = p.weight, p.grad.contiguous(), p.x.contiguous()
    with pytest.raises(SparseError, match="convert it"):
        kernels.weight_gradient(grad.half(), x, w.rows, w.cols, w.row_ptr)
    with pytest.raises(SparseError, match="needed"):
        kernels.weight_gradient(grad, x[:-1], w.rows, w.cols, w.row_ptr)
