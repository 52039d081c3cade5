"""y = x Wᵀ + bias on the device: hopper_forward.cu where it applies, else forward.cu."""

import numpy as np
from torch import Tensor

from procosm.sparse.kernels import hopper, launch
from procosm.sparse.kernels.hopper_forward import hopper_forward
from procosm.sparse.kernels.operands import check, kind, readable
from procosm.sparse.kernels.pairing import pairs_of

TOKENS = 64


def forward(x: Tensor, values: Tensor, cols: Tensor, row_ptr: Tensor, bias: Tensor | None = None) -> Tensor:
    """y (T, out) = x (T, in) Wᵀ + bias; see reference.forward. Repeatable bit for bit: each sum has one order.

    Raises:
        SparseError: an operand of another dtype, shape or device.
    """
    x, values, cols, row_ptr = map(readable, (x, values, cols, row_ptr))
    (tokens, width), b, gm = x.shape, values.shape[-1], row_ptr.numel() - 1
    check("x", x, (tokens, width // b * b), x.dtype, x)
    check("values", values, (cols.numel(), b, b), x.dtype, x)
    check("cols", cols, (values.shape[0],), cols.dtype, x)
    check("row_ptr", row_ptr, (gm + 1,), cols.dtype, x)
    if bias is not None:
        bias = readable(bias)
        check("bias", bias, (gm * b,), x.dtype, x)
    if hopper.suits(x, b, len(values), gm):
        return hopper_forward(x, values, cols, row_ptr, bias)
    y = x.new_empty(tokens, gm * b)
    pairs = pairs_of(row_ptr)
    sizes = (np.int64(tokens), np.int32(gm), np.int32(width // b))
    grid = (-(-tokens // TOKENS), pairs.shape[0])
    launch.run("forward", grid, 128, (x, values, bias, row_ptr, cols, pairs, y, *sizes), DTYPE=kind(x), BLOCK=b)
    return y
