"""Checks of what a kernel is about to read: CuPy makes none, and a wrong pointer is a silent wrong answer."""

import torch
from torch import Tensor

from procosm.sparse.errors import SparseError

DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2}


def check(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype, like: Tensor) -> None:
    """Raise SparseError with the remedy unless ``tensor`` has this shape and dtype, lies contiguous and 16-byte aligned
    on the device of ``like``.
    """
    if tuple(tensor.shape) != shape:
        raise SparseError(f"{name} has shape {tuple(tensor.shape)}, {shape} is needed")
    if tensor.dtype != dtype:
        raise SparseError(f"{name} is {tensor.dtype}, {dtype} is needed: convert it with .to({dtype})")
    if tensor.device != like.device:
        raise SparseError(f"{name} is on {tensor.device}, the other operands on {like.device}: move it with .to(...)")
    if not tensor.is_contiguous():
        raise SparseError(f"{name} is not contiguous: call .contiguous()")
    if tensor.data_ptr() % 16 and tensor.numel():
        raise SparseError(f"{name} does not start at a multiple of 16 bytes: call .clone()")


def readable(tensor: Tensor) -> Tensor:
    """An operand that is only read, as the kernels read it: contiguous from a multiple of 16 bytes on; a copy where it
    is not (a slice, or a gradient that lies in a larger buffer).
    """
    tensor = tensor.contiguous()
    return tensor.clone() if tensor.data_ptr() % 16 else tensor


def kind(tensor: Tensor) -> int:
    """The DTYPE constant of the kernels."""
    if tensor.dtype not in DTYPES:
        raise SparseError(f"the kernels take {tuple(DTYPES)}, got {tensor.dtype}: convert it, or use the CPU")
    return DTYPES[tensor.dtype]
