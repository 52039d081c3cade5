"""dV = gradᵀ x at the live blocks with wgmma and TMA: hopper_weight_gradient.cu, completed by sum_shares.cu."""

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.kernels import launch
from procosm.sparse.kernels.hopper import STAGES, THREADS, TOGETHER, gradient_bytes
from procosm.sparse.kernels.operands import kind
from procosm.sparse.kernels.sum_shares import sum_shares
from procosm.sparse.kernels.tensor_map import Boxes

LEAST_LOADS = 24
"""Slices of 64 tokens a CTA should load at least: fewer CTAs leave less to add up."""


def hopper_weight_gradient(grad: Tensor, x: Tensor, rows: Tensor, cols: Tensor, row_ptr: Tensor) -> Tensor:
    """dV (c, b, b); operands as ``weight_gradient``, which checks them and comes here where ``hopper.suits``."""
    tokens, gm, slots = len(grad), row_ptr.numel() - 1, rows.numel()
    b = grad.shape[1] // gm
    ctas = min(launch.processors(x), -(-2 * slots * -(-tokens // 64) // LEAST_LOADS))
    dv = x.new_empty(slots, b, b)
    partial = x.new_empty(2 * ctas, TOGETHER[b], b, b, dtype=torch.float32)
    arguments = (Boxes(grad, 64), Boxes(x, 64), rows, cols, row_ptr, dv, partial, np.int64(tokens), np.int32(gm))
    defines = {"DTYPE": kind(x), "BLOCK": b, "STAGES": STAGES[b]}
    launch.run("hopper_weight_gradient", (ctas,), THREADS, arguments, gradient_bytes(b), **defines)
    sum_shares(partial, dv, rows, row_ptr, tokens)
    return dv
