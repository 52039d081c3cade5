"""dV = gradᵀ x at the live blocks on the device: hopper_weight_gradient.cu if it applies, else weight_gradient.cu."""

import numpy as np
from torch import Tensor

from procosm.sparse.kernels import hopper, launch
from procosm.sparse.kernels.hopper_weight_gradient import hopper_weight_gradient
from procosm.sparse.kernels.operands import check, kind, readable


def weight_gradient(grad: Tensor, x: Tensor, rows: Tensor, cols: Tensor, row_ptr: Tensor) -> Tensor:
    """dV (c, b, b), zero in the padding; see reference.weight_gradient. Repeatable bit for bit.

    Raises:
        SparseError: an operand of another dtype, shape or device.
    """
    grad, x, rows, cols, row_ptr = map(readable, (grad, x, rows, cols, row_ptr))
    (tokens, out), width, gm = grad.shape, x.shape[1], row_ptr.numel() - 1
    b = out // gm
    check("grad", grad, (tokens, gm * b), x.dtype, x)
    check("x", x, (tokens, width // b * b), x.dtype, x)
    for name, index in (("rows", rows), ("cols", cols)):
        check(name, index, (rows.numel(),), rows.dtype, x)
    check("row_ptr", row_ptr, (gm + 1,), rows.dtype, x)
    if hopper.suits(x, b, rows.numel(), gm):
        return hopper_weight_gradient(grad, x, rows, cols, row_ptr)
    dv = x.new_empty(rows.numel(), b, b)
    sizes = (np.int64(tokens), np.int32(gm), np.int32(width // b))
    arguments = (grad, x, rows, cols, row_ptr, dv, *sizes)
    launch.run("weight_gradient", (rows.numel(),), 128, arguments, DTYPE=kind(x), BLOCK=b)
    return dv
