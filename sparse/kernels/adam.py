"""AdamW on live blocks in one pass on the device: adam.cu."""

import math

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.kernels import launch
from procosm.sparse.kernels.operands import check, readable


def adam(
    values: Tensor, grad: Tensor, m: Tensor, v: Tensor, row_ptr: Tensor,
    lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, step: int | Tensor,
) -> None:  # fmt: skip
    """In place on float32 (c, b, b); see reference.adam. The number of live blocks is read on the device, and so is the
    step where it is a float32 tensor of one element.

    Raises:
        SparseError: tensors that are not float32 or not of one shape and device; what is written must be contiguous
            and start at a multiple of 16 bytes.
    """
    grad = readable(grad)
    for name, tensor in (("values", values), ("grad", grad), ("m", m), ("v", v)):
        check(name, tensor, tuple(values.shape), torch.float32, values)
    check("row_ptr", row_ptr, tuple(row_ptr.shape), torch.int32, values)
    area = values.shape[1] * values.shape[2]
    if isinstance(step, Tensor):
        check("step", step, (), torch.float32, values)
        counter, corrections = step, (0.0, 0.0)
    else:
        counter, corrections = None, (1 - beta1**step, 1 - beta2**step)
    scalars = map(np.float32, (lr, beta1, beta2, eps, weight_decay, *corrections))
    logs = (np.float32(math.log(beta) if beta > 0 else -np.inf) for beta in (beta1, beta2))
    sizes = (np.int32(row_ptr.numel() - 1), np.int32(area))
    grid = (min(-(-values.numel() // 1024), 2112),)
    launch.run("adam", grid, 256, (values, grad, m, v, row_ptr, *sizes, *scalars, counter, *logs))
