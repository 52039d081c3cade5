"""The blocks of dV that several CTAs worked on, added in order: sum_shares.cu."""

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.kernels import launch
from procosm.sparse.kernels.hopper import TOGETHER
from procosm.sparse.kernels.operands import check, kind

PART = 4096
"""Elements of a block that a CTA adds up."""


def sum_shares(partial: Tensor, dv: Tensor, rows: Tensor, row_ptr: Tensor, tokens: int, per_chunk: int) -> None:
    """Complete dv (c, b, b) with what hopper_weight_gradient left in partial (chunks, together CTAs + c, b, b) float32;
    see reference.sum_shares. What no CTA wrote is not read. Repeatable bit for bit.

    Raises:
        SparseError: an operand of another dtype, shape or device, not contiguous, or not 16-byte aligned.
    """
    check("partial", partial, (*partial.shape[:2], *dv.shape[1:]), torch.float32, dv)
    check("dv", dv, tuple(dv.shape), dv.dtype, dv)
    check("rows", rows, (len(dv),), torch.int32, dv)
    check("row_ptr", row_ptr, tuple(row_ptr.shape), torch.int32, dv)
    block = dv.shape[-1]
    ctas = (partial.shape[1] - len(dv)) // TOGETHER[block]
    sizes = (np.int64(tokens), np.int32(row_ptr.numel() - 1), np.int32(ctas), np.int32(per_chunk))
    arguments = (partial, dv, rows, row_ptr, *sizes)
    launch.run("sum_shares", (len(dv), block**2 // PART), 256, arguments, DTYPE=kind(dv), BLOCK=block)
