"""Norms of probed block gradients with wgmma and TMA: hopper_block_norms.cu."""

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.kernels import launch
from procosm.sparse.kernels.hopper import THREADS, constants, gradient_bytes, together
from procosm.sparse.kernels.tensor_map import Boxes


def hopper_block_norms(grad: Tensor, x: Tensor, rows: Tensor, cols: Tensor, block: int) -> Tensor:
    """float32 (m,); operands as ``block_norms``, which checks them and comes here where ``hopper.suits``."""
    tokens, probed, processors = len(grad), rows.numel(), launch.processors(x)
    side_by_side = together(probed, block, processors)
    items = -(-probed // side_by_side)
    norms = torch.empty(probed, device=x.device)
    sizes = (np.int64(tokens), np.int32(probed), np.int32(side_by_side), np.int32(items))
    arguments = (Boxes(grad, 64), Boxes(x, 64), rows, cols, norms, *sizes)
    defines = constants(x, block)
    launch.run("hopper_block_norms", (min(items, processors),), THREADS, arguments, gradient_bytes(block), **defines)
    return norms
