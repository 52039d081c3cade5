"""Tensors that FSDP2 keeps in shards: a change of the pattern reads them whole and writes the part of each rank."""

import torch
from torch import Tensor


def summed(tensor: Tensor) -> Tensor:
    """The sum over all ranks of torch.distributed, in place; the tensor itself in a single process."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        torch.distributed.all_reduce(tensor)
    return tensor


def whole(tensor: Tensor) -> Tensor:
    """All of a sharded tensor, gathered from every rank; any other tensor itself."""
    return tensor.full_tensor() if hasattr(tensor, "full_tensor") else tensor


def write(target: Tensor, values: Tensor) -> None:
    """Copy ``values``, which every rank holds whole, into ``target``, sharded or not."""
    if hasattr(target, "full_tensor"):
        from torch.distributed.tensor import DTensor, distribute_tensor

        assert isinstance(target, DTensor)
        values = distribute_tensor(values.contiguous(), target.device_mesh, target.placements)
    target.copy_(values)
