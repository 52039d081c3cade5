"""hopper_data_gradient.cu against float64 dense: on the CPU by its own source, on a GPU where one is."""

from collections.abc import Callable

import pytest
import torch

from procosm.sparse import kernels
from tests.sparse.kernels.host_device import HostDevice
from tests.sparse.kernels.test_hopper_forward import CASES
from tests.sparse.oracle import close


@pytest.mark.parametrize("case", CASES)
def test_hopper_data_gradient(problem: Callable, on_hopper: Callable, case: dict) -> None:
    p = problem(**{"dtype": torch.bfloat16, **case})
    w = p.weight
    operands = [on_hopper(t) for t in (p.grad, w.values, w.rows, w.perm, w.col_ptr)]
    got = [kernels.data_gradient(*operands).cpu() for _ in range(2)]
    close(got[0], p.grad.double() @ p.dense, p.grad @ p.dense.to(p.grad.dtype))
    assert torch.equal(*got)


@pytest.mark.parametrize("block", [64, 128])
def test_early_and_late_copies_and_products_give_the_same_bits(
    problem: Callable, hopper: HostDevice, block: int
) -> None:
    p = problem(block=block, tokens=600, grid=(4, 3), density=0.7, dtype=torch.bfloat16)
    w, grad, results = p.weight, p.grad.contiguous(), []
    for hopper.order in range(4):
        results.append(kernels.data_gradient(grad, w.values, w.rows, w.perm, w.col_ptr))
    assert all(torch.equal(results[0], other) for other in results[1:])
    assert hopper.names == ["hopper_data_gradient"] * 4
