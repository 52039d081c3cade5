"""SGD with momentum on live blocks in one pass on the device: sgd.cu."""

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.kernels import launch
from procosm.sparse.kernels.operands import check, readable


def sgd(
    values: Tensor, grad: Tensor, velocity: Tensor, row_ptr: Tensor, lr: float, momentum: float, weight_decay: float
) -> None:
    """In place on float32 (c, b, b); see reference.sgd. The number of live blocks is read on the device.

    Raises:
        SparseError: tensors that are not float32 or not of one shape and device; what is written must be contiguous
            and start at a multiple of 16 bytes.
    """
    grad = readable(grad)
    for name, tensor in (("values", values), ("grad", grad), ("velocity", velocity)):
        check(name, tensor, tuple(values.shape), torch.float32, values)
    check("row_ptr", row_ptr, tuple(row_ptr.shape), torch.int32, values)
    sizes = (np.int32(row_ptr.numel() - 1), np.int32(values.shape[1] * values.shape[2]))
    grid = (min(-(-values.numel() // 256), 2112),)
    scalars = map(np.float32, (lr, momentum, weight_decay))
    launch.run("sgd", grid, 256, (values, grad, velocity, row_ptr, *sizes, *scalars))
