"""The truth the sparse products are held to: float64 dense tensors, and dense torch in the same dtype."""

import torch
from torch import Tensor

from procosm.sparse import matrix


def close(got: Tensor, truth: Tensor, dense: Tensor) -> None:
    """|got - truth| <= 2 |dense - truth| + one unit in the last place of the largest entry."""
    budget = 2 * (dense.double() - truth).abs().max() + torch.finfo(got.dtype).eps * truth.abs().max()
    assert torch.isfinite(got).all()
    assert (got.double() - truth).abs().max() <= budget


def blocks_of(dense: Tensor, index: matrix.BlockSparse) -> Tensor:
    """(c, b, b) tiles of a dense (out, in) tensor at the slots, zero in the padding."""
    b = index.block
    tiles = dense.unflatten(0, (-1, b)).unflatten(2, (-1, b)).transpose(1, 2)
    return tiles[index.rows.long(), index.cols.long()] * matrix.live(index).view(-1, 1, 1)


def norms_of(dense: Tensor, rows: Tensor, cols: Tensor, block: int) -> Tensor:
    """Frobenius norms of the named blocks of a dense (out, in) tensor."""
    tiles = dense.unflatten(0, (-1, block)).unflatten(2, (-1, block)).transpose(1, 2)
    return tiles.flatten(2).norm(dim=2)[rows.long(), cols.long()]
