"""hopper_block_norms.cu against float64 dense: on the CPU by its own source, on a GPU where one is."""

from collections.abc import Callable

import pytest
import torch

from procosm.sparse import kernels, matrix
from tests.sparse.kernels.host_device import HostDevice
from tests.sparse.kernels.test_hopper_forward import CASES
from tests.sparse.oracle import close, norms_of


@pytest.mark.parametrize("case", [*CASES, {"block": 64, "grid": (3, 20), "density": 0.1}])
def test_hopper_block_norms(problem: Callable, on_hopper: Callable, case: dict) -> None:
    p = problem(**{"dtype": torch.bfloat16, **case})
    rows, cols = (~matrix.kept_of(p.weight)).nonzero().to(torch.int32).unbind(1)
    b = p.weight.block
    operands = [on_hopper(t) for t in (p.grad, p.x, rows, cols)]
    got = [kernels.block_norms(*operands, b).cpu() for _ in range(2)]
    assert got[0].dtype == torch.float32 and got[0].shape == rows.shape and torch.equal(*got)
    if len(rows):
        truth, dense = p.grad.double().t() @ p.x.double(), (p.grad.t() @ p.x).float()
        close(got[0], norms_of(truth, rows, cols, b), norms_of(dense, rows, cols, b))


@pytest.mark.parametrize("block", [64, 128])
def test_blocks_in_any_order_have_the_same_norms(problem: Callable, hopper: HostDevice, block: int) -> None:
    p = problem(block=block, tokens=200, grid=(3, 4), dtype=torch.bfloat16)
    rows, cols = (place.flatten().int() for place in torch.meshgrid(torch.arange(3), torch.arange(4), indexing="ij"))
    grad, x = p.grad.contiguous(), p.x.contiguous()
    sorted_norms = kernels.block_norms(grad, x, rows, cols, block)
    shuffle = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    for hopper.order in range(4):
        assert torch.equal(kernels.block_norms(grad, x, rows[shuffle], cols[shuffle], block), sorted_norms[shuffle])
    assert hopper.launches == 5 and set(hopper.names) == {"hopper_block_norms"}
