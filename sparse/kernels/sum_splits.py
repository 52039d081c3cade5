"""Parts of dV, one a range of tokens, added in order: sum_splits.cu."""

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.kernels import launch
from procosm.sparse.kernels.operands import check, kind


def sum_splits(partial: Tensor, dv: Tensor, row_ptr: Tensor) -> None:
    """Fill dv (c, b, b) with the sum of partial float32 (splits, c, b, b), zero in the padding; see
    reference.sum_splits. What partial holds in the padding is not read. Repeatable bit for bit.

    Raises:
        SparseError: an operand of another dtype, shape or device, not contiguous, or not 16-byte aligned.
    """
    check("partial", partial, (len(partial), *dv.shape), torch.float32, dv)
    check("dv", dv, tuple(dv.shape), dv.dtype, dv)
    check("row_ptr", row_ptr, tuple(row_ptr.shape), torch.int32, dv)
    sizes = (np.int32(row_ptr.numel() - 1), np.int64(dv.numel()), np.int32(len(partial)))
    grid = (min(-(-dv.numel() // 1024), 2112),)
    launch.run("sum_splits", grid, 256, (partial, dv, row_ptr, *sizes), DTYPE=kind(dv), BLOCK=dv.shape[-1])
