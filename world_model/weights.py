"""Weight files as they are read: whole, of the shapes and kinds expected, every number a number.

Large ones stay mapped: a module takes the tensors themselves for its parameters, so that opening a checkpoint takes
the memory of its files and no more. Small ones are copied: a file aligns its tensors otherwise than torch does, and
products of the two differ in their last bits.
"""

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

from procosm.world_model.errors import CheckpointError
from procosm.world_model.files import read_tensors, sha256

RESTORE = "restore it from a copy, or train again"
POSITIVE = ("std", "residual_std", "reward_std", "change", "bound")
"""Last parts of the names of tensors that others are divided by, or whose logarithm is taken."""
PIECE = 1 << 20
"""Numbers of a tensor that are looked at together."""
MAPPED = 1 << 26
"""Bytes from which a file stays mapped."""


def checksum(path: Path) -> str:
    """sha256 of a weight file, in hexadecimal digits; never all of it in memory."""
    try:
        return sha256(path)
    except CheckpointError as error:
        raise CheckpointError(f"{error}; {RESTORE}") from error


_building = threading.local()


@contextmanager
def without_parameters() -> Iterator[None]:
    """Modules that this thread builds within have real buffers, and parameters on meta: those of a file will come."""
    before, _building.without = getattr(_building, "without", False), True
    try:
        yield
    finally:
        _building.without = before


def _leave_out(module: nn.Module, name: str, parameter: nn.Parameter | None) -> nn.Parameter | None:
    if parameter is None or not getattr(_building, "without", False):
        return None
    return nn.Parameter(parameter.detach().to("meta"), parameter.requires_grad)


# Once for all: torch walks its hooks while other threads build modules, and breaks if one comes or goes meanwhile.
register_module_parameter_registration_hook(_leave_out)  # type: ignore[arg-type]  # torch's own hint leaves out None

KINDS = (torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.uint8, torch.int32, torch.int64)


def read_weights(
    path: Path, sums: Mapping[str, str], expected: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """The tensors of a checkpoint's file.

    Args:
        path: the file.
        sums: checksum of each file of the checkpoint by its name; empty where it was saved without.
        expected: what the model needs: shapes and kinds (on any device, meta too) by name; None where it is not known.

    Raises:
        CheckpointError: the file is missing, damaged or does not fit, or a tensor holds NaN or infinity; by name.
    """
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: {RESTORE}")
    if sums and path.name in sums and checksum(path) != sums[path.name]:
        raise CheckpointError(f"{path} is damaged (its checksum is not the one in config.json): {RESTORE}")
    if expected is not None:
        check_fit(path, expected)
    tensors = read_tensors(path)
    if path.stat().st_size < MAPPED:
        tensors = {name: tensor.clone() for name, tensor in tensors.items()}
    for name, tensor in tensors.items():
        check_numbers(f"{path}: {name}", tensor, expected[name].dtype if expected and name in expected else None)
    return tensors


def stored_shapes(path: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor of a file, from its header, which must fit the file's size."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{path} is missing, truncated or damaged ({error}): {RESTORE}") from error


def check_fit(path: Path, expected: Mapping[str, Tensor]) -> None:
    """Refuse a file whose header has not exactly these tensors, before any of it is in memory."""
    shapes = stored_shapes(path)
    wanted = {name: tuple(tensor.shape) for name, tensor in expected.items()}
    wrong = sorted(name for name in wanted | shapes if wanted.get(name) != shapes.get(name))
    if wrong:
        told = "; ".join(
            f"{name} is {shapes.get(name, 'missing')}, {wanted.get(name, 'unknown')} by config.json"
            for name in wrong[:3]
        )
        raise CheckpointError(f"{path} does not fit its config.json ({len(wrong)} tensors: {told}): {RESTORE}")


def check_numbers(where: str, tensor: Tensor, dtype: torch.dtype | None = None) -> None:
    """Refuse NaN, infinity, and what becomes infinite in ``dtype``; of a deviation also zero and below.

    Args:
        where: file and name of the tensor. dtype: the model's, whose kind (floats or not) the tensor must have.
    """
    alike = dtype is None or tensor.dtype == dtype or (tensor.is_floating_point() and dtype.is_floating_point)
    if tensor.dtype not in KINDS or not alike:
        raise CheckpointError(f"{where} is {tensor.dtype}, where the model has {dtype or 'floats'}: {RESTORE}")
    dtype = dtype or tensor.dtype
    pieces = tensor.reshape(-1).split(PIECE) if tensor.is_floating_point() else ()
    if count := sum(int((~torch.isfinite(piece.to(dtype))).sum()) for piece in pieces):
        raise CheckpointError(f"{where} holds {count} of {tensor.numel()} values that are no finite numbers: {RESTORE}")
    if where.rpartition(".")[2].rpartition(" ")[2] in POSITIVE and not bool((tensor.to(dtype) > 0).all()):
        raise CheckpointError(f"{where} holds values that are not above zero, and it divides: {RESTORE}")
