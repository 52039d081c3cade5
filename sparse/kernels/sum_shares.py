"""The blocks of dV that several CTAs worked on, added in order: sum_shares.cu."""

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.kernels import launch
from procosm.sparse.kernels.operands import check, kind


def sum_shares(partial: Tensor, dv: Tensor, rows: Tensor, row_ptr: Tensor, tokens: int) -> None:
    """Complete dv (c, b, b) with what hopper_weight_gradient left in partial (2 CTAs, together, b, b) float32; see
    reference.sum_shares. What no CTA wrote is not read. Repeatable bit for bit.

    Raises:
        SparseError: an operand of another dtype, shape or device, not contiguous, or not 16-byte aligned.
    """
    check("partial", partial, (*partial.shape[:2], *dv.shape[1:]), torch.float32, dv)
    check("dv", dv, tuple(dv.shape), dv.dtype, dv)
    check("rows", rows, (len(dv),), torch.int32, dv)
    check("row_ptr", row_ptr, tuple(row_ptr.shape), torch.int32, dv)
    sizes = (np.int64(tokens), np.int32(row_ptr.numel() - 1), np.int32(len(partial) // 2))
    arguments = (partial, dv, rows, row_ptr, *sizes)
    launch.run("sum_shares", (len(dv),), 256, arguments, DTYPE=kind(dv), BLOCK=dv.shape[-1])
