"""block_norms.cu against float64 dense: on the CPU by its own source, on a GPU where one is."""

from collections.abc import Callable

import pytest
import torch

from procosm.sparse import kernels, matrix
from procosm.sparse.errors import SparseError
from tests.sparse.kernels.host_device import HostDevice
from tests.sparse.kernels.test_forward import CASES
from tests.sparse.oracle import close, norms_of


@pytest.mark.parametrize("case", CASES)
def test_block_norms(problem: Callable, place: Callable, case: dict) -> None:
    p = problem(**{"dtype": torch.bfloat16, **case})
    rows, cols = (~matrix.kept_of(p.weight)).nonzero().to(torch.int32).unbind(1)
    b = p.weight.block
    got = [kernels.block_norms(place(p.grad), place(p.x), place(rows), place(cols), b).cpu() for _ in range(2)]
    assert got[0].dtype == torch.float32 and got[0].shape == rows.shape and torch.equal(*got)
    if len(rows):
        truth, dense = p.grad.double().t() @ p.x.double(), (p.grad.t() @ p.x).float()
        close(got[0], norms_of(truth, rows, cols, b), norms_of(dense, rows, cols, b))


def test_any_order_of_threads_gives_the_same_bits(problem: Callable, host: HostDevice) -> None:
    p = problem(block=32, dtype=torch.bfloat16)
    results = []
    for host.order in range(4):
        results.append(kernels.block_norms(p.grad.contiguous(), p.x.contiguous(), p.weight.rows, p.weight.cols, 32))
    assert all(torch.equal(results[0], other) for other in results[1:])


def test_bad_operands_say_what_to_do(problem: Callable, host: HostDevice) -> None:
    p = problem()
    with pytest.raises(SparseError, match="convert it"):
        kernels.block_norms(p.grad.contiguous(), p.x.contiguous(), p.weight.rows.long(), p.weight.cols, 16)
