"""dx = grad W on the device: hopper_data_gradient.cu where it applies, else data_gradient.cu."""

import numpy as np
from torch import Tensor

from procosm.sparse.kernels import hopper, launch
from procosm.sparse.kernels.hopper_data_gradient import hopper_data_gradient
from procosm.sparse.kernels.operands import check, kind, readable
from procosm.sparse.kernels.pairing import pairs_of

TOKENS = 64


def data_gradient(grad: Tensor, values: Tensor, rows: Tensor, perm: Tensor, col_ptr: Tensor) -> Tensor:
    """dx (T, in) = grad (T, out) W; see reference.data_gradient. Repeatable bit for bit.

    Raises:
        SparseError: an operand of another dtype, shape or device.
    """
    grad, values, rows, perm, col_ptr = map(readable, (grad, values, rows, perm, col_ptr))
    (tokens, out), b, gn = grad.shape, values.shape[-1], col_ptr.numel() - 1
    check("grad", grad, (tokens, out // b * b), grad.dtype, grad)
    check("values", values, (rows.numel(), b, b), grad.dtype, grad)
    for name, index in (("rows", rows), ("perm", perm)):
        check(name, index, (values.shape[0],), rows.dtype, grad)
    check("col_ptr", col_ptr, (gn + 1,), rows.dtype, grad)
    if hopper.suits(grad, b, len(values), gn):
        return hopper_data_gradient(grad, values, rows, perm, col_ptr)
    dx = grad.new_empty(tokens, gn * b)
    pairs = pairs_of(col_ptr)
    sizes = (np.int64(tokens), np.int32(out // b), np.int32(gn))
    arguments = (grad, values, col_ptr, perm, rows, pairs, dx, *sizes)
    launch.run("data_gradient", (-(-tokens // TOKENS), pairs.shape[0]), 128, arguments, DTYPE=kind(grad), BLOCK=b)
    return dx
