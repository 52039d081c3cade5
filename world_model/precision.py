"""Where a model computes, and in which precision: the one place that knows devices by name."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from procosm.world_model.errors import ProcosmError


def resolve_device(name: str | torch.device) -> torch.device:
    """The device meant by ``auto`` (CUDA where there is a device), ``cpu``, ``cuda`` or ``cuda:i``.

    Raises:
        ProcosmError: another name, or a device that this machine does not have.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    known = re.fullmatch(r"cpu|cuda(?::(\d+))?", str(name))
    if known is None:
        raise ProcosmError(f"device {name} is no device: give auto, cpu, cuda, or cuda:i for the i-th of several")
    if str(name) == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    number = int(known[1]) if known[1] else torch.cuda.current_device() if count else 0
    if number >= count:
        raise ProcosmError(
            f"device {name} is not here: torch {torch.__version__} sees {count} CUDA devices; give cpu or auto"
        )
    return torch.device("cuda", number)


@contextmanager
def float32_convolutions() -> Iterator[None]:
    """Convolutions of float32 in float32: cuDNN takes them in TF32 unless told. For products torch's default is right.

    What needs no such digits runs in bfloat16 under autocast.
    """
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def place(module: nn.Module, device: torch.device) -> None:
    """Lay a module on a device, one tensor after the other; ``Module.to`` does not take tensors without memory."""
    for part in module.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None and parameter.device != device:
                part._parameters[name] = nn.Parameter(parameter.detach().to(device), parameter.requires_grad)
        for name, buffer in part._buffers.items():
            part._buffers[name] = None if buffer is None else buffer.to(device)


def describe(device: torch.device) -> str:
    """A device in words, for provenance."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


def bfloat16_pays(device: torch.device) -> bool:
    """Whether products in bfloat16 are faster than float32 on a device."""
    return torch.cuda.is_bf16_supported() if device.type == "cuda" else has_bfloat16()


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware; emulated, they are slower than float32.

    Only Linux says so; elsewhere the answer is no, and everything runs in float32.
    """
    flags = Path("/proc/cpuinfo")
    return flags.exists() and bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags.read_text(encoding="utf-8").split()))


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """A small CPU tensor (a batch's indices, its noise) on a device, without waiting for the device."""
    return tensor.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else tensor.to(device)


def fits(size: int, device: torch.device) -> bool:
    """Whether so many bytes fit into a device's memory and leave half of what is free to computing.

    Of a CPU's memory only Linux says how much is free; elsewhere everything fits.
    """
    if device.type == "cuda":
        return size < 0.5 * torch.cuda.mem_get_info(device)[0]
    told = Path("/proc/meminfo")
    free = re.search(r"MemAvailable:\s+(\d+) kB", told.read_text(encoding="utf-8")) if told.exists() else None
    return free is None or size < 0.5 * 1024 * int(free[1])
