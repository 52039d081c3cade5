"""data_gradient.cu against float64 dense: on the CPU by its own source, on a GPU where one is."""

from collections.abc import Callable

import pytest
import torch

from procosm.sparse import kernels
from procosm.sparse.errors import SparseError
from tests.sparse.kernels.host_device import HostDevice
from tests.sparse.kernels.test_forward import CASES
from tests.sparse.oracle import close


@pytest.mark.parametrize("case", CASES)
def test_data_gradient(problem: Callable, place: Callable, case: dict) -> None:
    p = problem(**{"dtype": torch.bfloat16, **case})
    w = p.weight
    operands = [place(t) for t in (p.grad, w.values, w.rows, w.perm, w.col_ptr)]
    got = [kernels.data_gradient(*operands).cpu() for _ in range(2)]
    # With AMX dense torch reads whole tiles, NaN beside a strided operand included.
    close(got[0], p.grad.double() @ p.dense, p.grad.contiguous() @ p.dense.to(p.grad.dtype))
    assert torch.equal(*got)


def test_any_order_of_threads_gives_the_same_bits(problem: Callable, host: HostDevice) -> None:
    p = problem(block=32, dtype=torch.bfloat16)
    w, results = p.weight, []
    for host.order in range(4):
        results.append(kernels.data_gradient(p.grad.contiguous(), w.values, w.rows, w.perm, w.col_ptr))
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_bad_operands_say_what_to_do(problem: Callable, host: HostDevice) -> None:
    w, grad = problem().weight, problem().grad.contiguous()
    with pytest.raises(SparseError, match="needed"):
        kernels.data_gradient(grad, w.values, w.rows, w.perm[:-1], w.col_ptr)
    with pytest.raises(SparseError, match="convert it"):
        kernels.data_gradient(grad, w.values, w.rows, w.perm.long(), w.col_ptr)
