"""dx = grad W with wgmma and TMA: hopper_data_gradient.cu."""

import numpy as np
from torch import Tensor

from procosm.sparse.kernels import launch
from procosm.sparse.kernels.hopper import PIECE, THREADS, TOKENS, constants, places, product_bytes
from procosm.sparse.kernels.tensor_map import Boxes


def hopper_data_gradient(grad: Tensor, values: Tensor, rows: Tensor, perm: Tensor, col_ptr: Tensor) -> Tensor:
    """dx (T, in); operands as ``data_gradient``, which checks them and comes here where ``hopper.suits``."""
    tokens, b, gn = len(grad), values.shape[-1], col_ptr.numel() - 1
    dx = grad.new_empty(tokens, gn * b)
    processors = launch.processors(grad)
    per_tile = places(tokens, gn, b, processors)
    items = -(-tokens // TOKENS[b]) * per_tile
    maps = (Boxes(grad, 256), Boxes(values, 64), Boxes(dx, PIECE[b]))
    arguments = (*maps, col_ptr, perm, rows, np.int64(tokens), np.int32(gn), np.int32(per_tile))
    defines = constants(grad, b)
    launch.run("hopper_data_gradient", (min(items, processors),), THREADS, arguments, product_bytes(b), **defines)
    return dx
