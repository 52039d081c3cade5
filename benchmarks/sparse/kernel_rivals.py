"""Other implementations of the products of a block-sparse layer, each built from the same weight.

A builder returns the products it has as calls without arguments, or raises: an implementation that is not installed or
does not run on this device becomes a row that says so. Dense cuBLAS and our kernels are in kernels.py.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from procosm.sparse.matrix import BlockSparse

Products = dict[str, Callable[[], Any]]


@dataclass(frozen=True)
class Cell:
    """One layer and one batch: weight (out, in), x (T, in), grad (T, out), all in one dtype on one device."""

    weight: BlockSparse
    x: Tensor
    grad: Tensor


def torch_bsr(cell: Cell) -> Products:
    """torch.sparse BSR with torch's Triton kernels, tuned on this device for these shapes; forward and data gradient.

    The kernels compute sparse @ dense, so tokens lie along columns: what they are given and give is transposed, without
    a copy. There is no weight gradient.
    """
    from torch.sparse._triton_ops import bsr_dense_addmm
    from torch.sparse._triton_ops_meta import tune_bsr_dense_addmm

    def tuned(matrix: Tensor, operand: Tensor) -> Callable[[], Tensor]:
        out = operand.new_zeros(matrix.shape[0], len(operand))
        tune_bsr_dense_addmm(out, matrix, operand.t(), beta=0, alpha=1, store=True)
        return lambda: bsr_dense_addmm(out, matrix, operand.t(), beta=0, alpha=1, out=out).t()

    return {
        "forward": tuned(_bsr(cell.weight), cell.x),
        "data_gradient": tuned(_bsr_t(cell.weight), cell.grad),
    }


def torch_bsr_float32(cell: Cell) -> Products:
    """torch.sparse BSR in float32 through cuSPARSE's bsrmm, the blocked format torch exposes; forward only."""
    matrix, x = _bsr(cell.weight, torch.float32), cell.x.float()
    return {"forward": lambda: torch.mm(matrix, x.t()).t()}


def stk(cell: Cell) -> Products:
    """stanford-stk in float16: what MegaBlocks computes with."""
    import stk

    w = cell.weight
    n = w.n
    rows, cols = (index[:n].to(torch.int16) for index in (w.rows, w.cols))
    matrix = stk.Matrix(w.shape, w.values[:n].half(), rows, cols, w.row_ptr)
    x, grad = cell.x.half(), cell.grad.half()
    return {
        "forward": lambda: stk.ops.dds(x, matrix.t()),
        "data_gradient": lambda: stk.ops.dds(grad, matrix),
        "weight_gradient": lambda: stk.ops.sdd(grad.t(), x, matrix).data,
    }


def blksprs(cell: Cell) -> Products:
    """blksprs: sparse times sparse, the activations given as matrices with every block present."""
    import blksprs as bs

    w, b = cell.weight, cell.weight.block
    kept = torch.zeros(1, *w.grid, dtype=torch.bool, device=w.values.device)
    kept[0, w.rows[: w.n].long(), w.cols[: w.n].long()] = True
    tokens = len(cell.x) // b
    full_in, full_out = (torch.ones(1, tokens, side, dtype=torch.bool, device=kept.device) for side in w.grid[::-1])
    # Blocks in row-major order of the layout: the slots for W, sorted by column for its transpose.
    x, grad = (bs.ops.to_sparse(t[None], full, b) for t, full in ((cell.x, full_in), (cell.grad, full_out)))
    plain = bs.BlksprsTensor.wrap(w.values[: w.n])
    turned = bs.BlksprsTensor.wrap(w.values[w.perm[: w.n].long()].transpose(1, 2).contiguous())
    turned_layout = kept.transpose(1, 2).contiguous()
    grad_t = bs.ops.to_sparse(cell.grad.t()[None].contiguous(), full_out.transpose(1, 2).contiguous(), b)
    full_t = full_out.transpose(1, 2).contiguous()
    return {
        "forward": lambda: bs.ops.matmul(x, full_in, turned, turned_layout, full_out, b),
        "data_gradient": lambda: bs.ops.matmul(grad, full_out, plain, kept, full_in, b),
        "weight_gradient": lambda: bs.ops.matmul(grad_t, full_t, x, full_in, kept, b),
    }


RIVALS: dict[str, Callable[[Cell], Products]] = {
    "torch BSR, tuned": torch_bsr,
    "torch BSR float32, cuSPARSE": torch_bsr_float32,
    "stanford-stk, float16": stk,
    "blksprs": blksprs,
}
"""cuSPARSE's Blocked-ELL has no entry: neither torch nor CuPy exposes it."""


def _bsr(w: BlockSparse, dtype: torch.dtype | None = None) -> Tensor:
    values = w.values[: w.n].to(dtype or w.values.dtype)
    return torch.sparse_bsr_tensor(w.row_ptr, w.cols[: w.n], values, w.shape, check_invariants=True)


def _bsr_t(w: BlockSparse) -> Tensor:
    order = w.perm[: w.n].long()
    values = w.values[order].transpose(1, 2).contiguous()
    return torch.sparse_bsr_tensor(w.col_ptr, w.rows[order], values, w.shape[::-1], check_invariants=True)
