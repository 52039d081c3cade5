"""Norms of probed block gradients, never stored: hopper_block_norms.cu if it applies, else block_norms.cu."""

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.kernels import hopper, launch
from procosm.sparse.kernels.hopper_block_norms import hopper_block_norms
from procosm.sparse.kernels.operands import check, kind, readable


def block_norms(grad: Tensor, x: Tensor, rows: Tensor, cols: Tensor, block: int) -> Tensor:
    """float32 (m,); see reference.block_norms. Repeatable bit for bit.

    Raises:
        SparseError: an operand of another dtype, shape or device.
    """
    grad, x, rows, cols = map(readable, (grad, x, rows, cols))
    (tokens, out), width = grad.shape, x.shape[1]
    check("grad", grad, (tokens, out // block * block), x.dtype, x)
    check("x", x, (tokens, width // block * block), x.dtype, x)
    for name, index in (("rows", rows), ("cols", cols)):
        check(name, index, (rows.numel(),), torch.int32, x)
    if hopper.suits(x, block, rows.numel()):
        return hopper_block_norms(grad, x, rows, cols, block)
    norms = torch.empty(rows.numel(), device=x.device)
    sizes = (np.int64(tokens), np.int32(out // block), np.int32(width // block))
    arguments = (grad, x, rows, cols, norms, *sizes)
    launch.run("block_norms", (rows.numel(),), 128, arguments, DTYPE=kind(x), BLOCK=block)
    return norms
