"""Kernels by name, launched on torch's current stream. The only file that imports cupy.

A launch never waits for the device and, once a kernel is loaded, does nothing a CUDA graph could not record.
"""

from collections.abc import Sequence
from functools import cache

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.errors import SparseError
from procosm.sparse.kernels.compiler import architecture, cached_cubin
from procosm.sparse.kernels.tensor_map import Boxes, encode

Argument = Tensor | Boxes | np.generic | None


def run(
    name: str, grid: tuple[int, ...], threads: int, arguments: Sequence[Argument], shared: int = 0, **defines: int
) -> None:
    """Launch ``procosm_NAME`` from NAME.cu, compiled with ``defines``; returns before it has run.

    Args:
        grid: CTAs along x (and y); an empty grid launches nothing.
        arguments: tensors go as pointers, without a copy; None as a null pointer; Boxes as a tensor map by value;
            scalars as NumPy scalars of the exact type the kernel declares, because nothing checks them.
        shared: bytes of dynamic shared memory.
    """
    if 0 in grid:
        return
    device = next(a for a in arguments if isinstance(a, Tensor)).device
    if device.type != "cuda":
        raise SparseError(f"{name} got tensors on {device}: move them to a CUDA device")
    import cupy

    stream = cupy.cuda.Stream.from_external(torch.cuda.current_stream(device))
    with cupy.cuda.Device(device.index), stream:
        # Autograd's own threads have no context before a first call like this one, and the driver encodes maps in it.
        cupy.cuda.runtime.setDevice(device.index)
        packed, kept = [], []
        for argument in arguments:
            if isinstance(argument, Boxes):
                kept.append(encode(argument))  # its bytes are copied at the launch
                packed.append(cupy.cuda.function.CPointer(kept[-1].ctypes.data))
            else:
                packed.append(_packed(argument))
        kernel = _kernel(name, device.index, shared, tuple(sorted(defines.items())))
        kernel(grid, (threads,), packed, shared_mem=shared)


def capability(tensor: Tensor) -> tuple[int, int]:
    """Compute capability of the tensor's device; (0, 0) where that is not a CUDA device."""
    return torch.cuda.get_device_capability(tensor.device) if tensor.is_cuda else (0, 0)


def processors(tensor: Tensor) -> int:
    """Streaming multiprocessors of the tensor's device."""
    return torch.cuda.get_device_properties(tensor.device).multi_processor_count


@cache
def _kernel(name: str, device: int, shared: int, defines: tuple[tuple[str, int], ...]):
    import cupy

    arch = architecture(*torch.cuda.get_device_capability(device))
    kernel = cupy.RawModule(path=str(cached_cubin(name, arch, **dict(defines)))).get_function(f"procosm_{name}")
    if shared:
        kernel.max_dynamic_shared_size_bytes = shared
    return kernel


def _packed(argument: Tensor | np.generic | None) -> np.generic:
    if argument is None:
        return np.uint64(0)
    return np.uint64(argument.data_ptr()) if isinstance(argument, Tensor) else argument
