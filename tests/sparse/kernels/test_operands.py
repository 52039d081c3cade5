"""Operands as users have them: slices, transposed views, gradients inside a larger buffer."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from procosm import sparse
from procosm.sparse import kernels
from tests.sparse.kernels.host_device import HostDevice


def askew(tensor: Tensor) -> Tensor:
    """The same numbers, contiguous, from an address that is no multiple of 16 on."""
    room = tensor.new_empty(tensor.numel() + 1)
    moved = room[1:].view(tensor.shape)
    moved.copy_(tensor)
    assert moved.is_contiguous() and moved.data_ptr() % 16
    return moved


def strided(tensor: Tensor) -> Tensor:
    """The same numbers, every other one of a larger tensor."""
    return torch.stack([tensor, tensor], -1)[..., 0]


@pytest.mark.parametrize("spoil", [askew, strided])
@pytest.mark.parametrize("block", [32, 64])
def test_products_take_operands_that_lie_anywhere(
    problem: Callable, hopper: HostDevice, block: int, spoil: Callable[[Tensor], Tensor]
) -> None:
    p = problem(block=block, tokens=70, dtype=torch.bfloat16)
    w, x, grad = p.weight, p.x.contiguous(), p.grad.contiguous()
    for product, operands in {
        kernels.forward: (x, w.values, w.cols, w.row_ptr, p.bias),
        kernels.data_gradient: (grad, w.values, w.rows, w.perm, w.col_ptr),
        kernels.weight_gradient: (grad, x, w.rows, w.cols, w.row_ptr),
    }.items():
        assert torch.equal(product(*map(spoil, operands)), product(*operands))
    norms = [kernels.block_norms(*map(f, (grad, x, w.rows, w.cols)), block) for f in (spoil, torch.clone)]
    assert torch.equal(*norms)


@pytest.mark.parametrize("spoil", [askew, strided])
def test_optimizers_take_gradients_that_lie_anywhere(host: HostDevice, spoil: Callable[[Tensor], Tensor]) -> None:
    row_ptr = torch.tensor([0, 2], dtype=torch.int32)
    start = [torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(seed)) for seed in range(4)]
    results = []
    for grad in (start[1], spoil(start[1])):
        values, m, v = (start[k].clone() for k in (0, 2, 3))
        kernels.adam(values, grad, m, v, row_ptr, 0.1, 0.9, 0.99, 1e-8, 0.0, 1)
        kernels.sgd(values, grad, m, row_ptr, 0.1, 0.9, 0.0)
        results.append((values, m, v))
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_blocks_to_probe_are_named_in_memory_of_their_own() -> None:
    layer = sparse.nn.Linear(5 * 16, 7 * 16, block=16, density=0.4)  # an odd number of untracked blocks
    for index in layer._untracked(None):
        assert index.storage_offset() == 0 and index.stride() == (1,)
