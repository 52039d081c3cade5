"""y = x Wᵀ + bias with wgmma and TMA: hopper_forward.cu."""

import numpy as np
from torch import Tensor

from procosm.sparse.kernels import launch
from procosm.sparse.kernels.hopper import PIECE, THREADS, TOKENS, constants, places, product_bytes
from procosm.sparse.kernels.tensor_map import Boxes


def hopper_forward(x: Tensor, values: Tensor, cols: Tensor, row_ptr: Tensor, bias: Tensor | None = None) -> Tensor:
    """y (T, out); operands as ``forward``, which checks them and comes here where ``hopper.suits``."""
    tokens, b, gm = len(x), values.shape[-1], row_ptr.numel() - 1
    y = x.new_empty(tokens, gm * b)
    processors = launch.processors(x)
    per_tile = places(tokens, gm, b, processors)
    items = -(-tokens // TOKENS[b]) * per_tile
    maps = (Boxes(x, 256), Boxes(values, 64), Boxes(y, PIECE[b]))
    arguments = (*maps, bias, row_ptr, cols, np.int64(tokens), np.int32(gm), np.int32(per_tile))
    defines = constants(x, b)
    launch.run("hopper_forward", (min(items, processors),), THREADS, arguments, product_bytes(b), **defines)
    return y
