"""dV = gradᵀ x at the live blocks with wgmma and TMA: hopper_weight_gradient.cu, completed by sum_shares.cu."""

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.kernels import launch
from procosm.sparse.kernels.hopper import THREADS, TOGETHER, constants, gradient_bytes
from procosm.sparse.kernels.sum_shares import sum_shares
from procosm.sparse.kernels.tensor_map import Boxes

LEAST_LOADS = 24
"""Slices of 64 tokens a CTA should load at least: fewer CTAs leave less to add up."""
CHUNK_BYTES = 32 << 20
"""Of grad and x that all CTAs work on at a time, so that L2 (50 MiB) holds them until the last one has read them."""
MOST_CHUNKS = 8
"""Each chunk leaves its own sums to add up."""


def hopper_weight_gradient(grad: Tensor, x: Tensor, rows: Tensor, cols: Tensor, row_ptr: Tensor) -> Tensor:
    """dV (c, b, b); operands as ``weight_gradient``, which checks them and comes here where ``hopper.suits``."""
    tokens, gm, slots = len(grad), row_ptr.numel() - 1, rows.numel()
    b = grad.shape[1] // gm
    stages = -(-tokens // 64)
    per_chunk = stages_of_a_chunk(stages, 64 * (grad.shape[1] + x.shape[1]) * x.itemsize)
    ctas = min(launch.processors(x), -(-2 * slots * per_chunk // LEAST_LOADS))
    dv = x.new_empty(slots, b, b)
    partial = x.new_empty(-(-stages // per_chunk), TOGETHER[b] * ctas + slots, b, b, dtype=torch.float32)
    sizes = (np.int64(tokens), np.int32(gm), np.int32(slots), np.int32(per_chunk))
    arguments = (Boxes(grad, 64), Boxes(x, 64), rows, cols, row_ptr, dv, partial, *sizes)
    defines = constants(x, b)
    launch.run("hopper_weight_gradient", (ctas,), THREADS, arguments, gradient_bytes(b), **defines)
    sum_shares(partial, dv, rows, row_ptr, tokens, per_chunk)
    return dv


def stages_of_a_chunk(stages: int, stage_bytes: int) -> int:
    """Stages of 64 tokens between two lines: chunks of equal length, as few as keep to CHUNK_BYTES and MOST_CHUNKS."""
    chunks = min(MOST_CHUNKS, max(1, -(-stages * stage_bytes // CHUNK_BYTES)))
    return -(-stages // chunks)
