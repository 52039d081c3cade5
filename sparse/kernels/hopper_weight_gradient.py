"""dV = gradᵀ x at the live blocks with wgmma and TMA: hopper_weight_gradient.cu."""

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.kernels import launch
from procosm.sparse.kernels.hopper import STAGES, THREADS, cut, gradient_bytes
from procosm.sparse.kernels.operands import kind
from procosm.sparse.kernels.sum_splits import sum_splits
from procosm.sparse.kernels.tensor_map import Boxes

MOST_SPLITS = 16


def hopper_weight_gradient(grad: Tensor, x: Tensor, rows: Tensor, cols: Tensor, row_ptr: Tensor) -> Tensor:
    """dV (c, b, b); operands as ``weight_gradient``, which checks them and comes here where ``hopper.suits``.

    Where the slots alone would leave processors idle, tokens are split and the parts added in order by ``sum_splits``.
    """
    tokens, gm, slots = len(grad), row_ptr.numel() - 1, rows.numel()
    b, processors = grad.shape[1] // gm, launch.processors(x)
    together, splits = cut(tokens, slots, gm, b, processors, MOST_SPLITS)
    items = -(-slots // together)
    dv = x.new_empty(slots, b, b)
    partial = None if splits == 1 else x.new_empty(splits, slots, b, b, dtype=torch.float32)
    sizes = (np.int64(tokens), *map(np.int32, (gm, slots, together, items, splits)))
    arguments = (Boxes(grad, 64), Boxes(x, 64), rows, cols, row_ptr, dv, partial, *sizes)
    defines = {"DTYPE": kind(x), "BLOCK": b, "STAGES": STAGES[b]}
    grid = (min(items * splits, processors),)
    launch.run("hopper_weight_gradient", grid, THREADS, arguments, gradient_bytes(b), **defines)
    if partial is not None:
        sum_splits(partial, dv, row_ptr)
    return dv
