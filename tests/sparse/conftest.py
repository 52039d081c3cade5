"""Operands for the product tests, cut from NaN-filled memory so that any read outside them shows."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from procosm.sparse import matrix


@dataclass(frozen=True)
class Problem:
    """One product and everything its gradients need; all tensors in one dtype."""

    weight: matrix.BlockSparse
    x: Tensor
    grad: Tensor
    bias: Tensor

    @property
    def dense(self) -> Tensor:
        """The weight as float64 dense."""
        return matrix.to_dense(self.weight).double()


def poisoned(tensor: Tensor) -> Tensor:
    """The same values as a strided slice in the middle of a NaN-filled one."""
    room = torch.full((tensor.shape[0] + 2, tensor.shape[1] + 24), float("nan"), dtype=tensor.dtype)
    inside = room[1:-1, 8:-16]
    inside.copy_(tensor)
    return inside


@pytest.fixture
def problem() -> Callable[..., Problem]:
    """make(tokens, grid, block, density, dtype): a reproducible problem with padding slots and a NaN border."""

    def make(
        tokens: int = 17,
        grid: tuple[int, int] = (5, 3),
        block: int = 16,
        density: float = 0.4,
        dtype: torch.dtype = torch.float32,
    ) -> Problem:
        generator = torch.Generator().manual_seed(tokens + 7 * block)
        shape = (grid[0] * block, grid[1] * block)
        capacity = min(grid[0] * grid[1], round(density * grid[0] * grid[1]) + 2)
        weight = matrix.random(shape, block, density, generator, capacity, dtype)
        x, grad = (poisoned(torch.randn(tokens, side, generator=generator).to(dtype)) for side in reversed(shape))
        return Problem(weight, x, grad, torch.randn(shape[0], generator=generator).to(dtype))

    return make
