"""Kernels by name, launched on torch's current stream. The only file that imports cupy."""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.errors import SparseError
from procosm.sparse.kernels.compiler import architecture, cached_cubin


def run(
    name: str, grid: tuple[int, ...], threads: int, arguments: Sequence[Tensor | np.generic | None], **defines: int
) -> None:
    """Launch ``procosm_NAME`` from NAME.cu, compiled with ``defines``; returns before it has run.

    Args:
        grid: CTAs along x (and y); an empty grid launches nothing.
        arguments: tensors go as pointers, without a copy; None as a null pointer; scalars as NumPy scalars of the
            exact type the kernel declares, because nothing checks them.
    """
    if 0 in grid:
        return
    device = next(a for a in arguments if isinstance(a, Tensor)).device
    if device.type != "cuda":
        raise SparseError(f"{name} got tensors on {device}: move them to a CUDA device")
    packed = [_packed(argument) for argument in arguments]
    import cupy

    stream = cupy.cuda.Stream.from_external(torch.cuda.current_stream(device))
    with cupy.cuda.Device(device.index), stream:
        _kernel(name, device.index, tuple(sorted(defines.items())))(grid, (threads,), packed)


@cache
def _kernel(name: str, device: int, defines: tuple[tuple[str, int], ...]):
    import cupy

    arch = architecture(*torch.cuda.get_device_capability(device))
    return cupy.RawModule(path=str(cached_cubin(name, arch, **dict(defines)))).get_function(f"procosm_{name}")


def _packed(argument: Tensor | np.generic | None) -> np.generic:
    if argument is None:
        return np.uint64(0)
    return np.uint64(argument.data_ptr()) if isinstance(argument, Tensor) else argument
