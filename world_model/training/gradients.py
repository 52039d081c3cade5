"""The gradient of a batch: alone, on every process a copy of the weights (DDP), or a part of them (FSDP2)."""

import contextlib
import copy
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from procosm.sparse.nn import BlockWeight
from procosm.sparse.sharded import whole
from procosm.world_model.data.share import Share, sharing
from procosm.world_model.precision import float32_convolutions
from procosm.world_model.training.parallel import Parallel, mean, processes, rank

Losses = Callable[[int], tuple[Tensor, dict[str, Tensor]]]
"""From the number of a step to ``loss, metrics`` of this process's share of its batch."""


class _Losses(nn.Module):
    """Losses as a module with a forward pass, around which torch does what is to be done in parallel."""

    def __init__(self, module: nn.Module, losses: Losses) -> None:
        super().__init__()
        self.module, self.losses = module, losses

    def forward(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.losses(step)


class Gradients:
    """Backward passes of a stage's module, to be used as a context: within, the module may be in shards."""

    def __init__(self, module: nn.Module, losses: Losses, how: Parallel) -> None:
        self.module, self.how = module, how
        self._losses = _Losses(module, losses)
        self._parallel: Any = self._losses

    @property
    def parts(self) -> int:
        """Backward passes, in all processes, that make the gradient of one step."""
        return processes() * self.how.accumulate

    @property
    def in_shards(self) -> bool:
        """Whether each process has a part of the parameters while steps are taken."""
        return processes() > 1 and self.how.kind == "fsdp"

    @contextlib.contextmanager
    def ready(self, first: int) -> Iterator[None]:
        """Within, steps can be taken, from the ``first`` on; what an optimizer is to train is what it finds here."""
        with contextlib.ExitStack() as stack:
            if self.in_shards:
                stack.enter_context(_in_shards(self._losses))
            if self.how.recompute:
                stack.enter_context(recomputed(self.module))
            if processes() > 1 and not self.in_shards:
                self._parallel = self._replicated(first)
            yield
        self._parallel = self._losses

    def __call__(self, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Add the gradient of a step's batch to the parameters'; its loss and metrics, those of the whole batch."""
        parts = self.how.accumulate
        told: dict[str, Tensor] = {}
        for part in range(parts):
            mine = Share(rank() * parts + part, processes() * parts)
            with self._synchronised(part + 1 == parts), sharing(mine):
                loss, metrics = self._parallel(step)
                with float32_convolutions():
                    (loss if parts == 1 else loss / parts).backward()
            each = {"": loss.detach(), **metrics}
            told = {name: told[name] + value for name, value in each.items()} if told else each
        told = mean(told if parts == 1 else {name: value / parts for name, value in told.items()})
        return told.pop(""), told

    def _replicated(self, step: int) -> nn.Module:
        """DDP has to be told whether a stage leaves weights unused: a step shows."""
        with sharing(Share(rank(), processes())):
            self._losses(step)[0].backward()
        unused = any(p.requires_grad and p.grad is None for p in self.module.parameters())
        self.module.zero_grad(set_to_none=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # what it advises, older versions do not have
            return nn.parallel.DistributedDataParallel(
                self._losses, broadcast_buffers=False, find_unused_parameters=unused
            )

    @contextlib.contextmanager
    def _synchronised(self, last: bool) -> Iterator[None]:
        """Gradients are averaged over the processes after the last part of a batch alone."""
        if hasattr(self._parallel, "set_requires_gradient_sync"):
            self._parallel.set_requires_gradient_sync(last)
        elif hasattr(self._parallel, "no_sync") and not last:
            with self._parallel.no_sync():
                yield
            return
        yield


def blocks(module: nn.Module) -> list[nn.Module]:
    """The repeated parts of a network, those that stand in a list."""
    found: list[nn.Module] = []
    for child in module.children():
        found += list(child) if isinstance(child, nn.ModuleList) else blocks(child)
    return found


@contextlib.contextmanager
def recomputed(module: nn.Module) -> Iterator[None]:
    """Within, the blocks of a module keep their inputs alone for the backward pass."""
    chosen = blocks(module)
    for block in chosen:
        block.forward = partial(checkpoint, block.forward, use_reentrant=False)
    try:
        yield
    finally:
        for block in chosen:
            del block.forward


@contextlib.contextmanager
def _in_shards(losses: _Losses) -> Iterator[None]:
    """Within, the module's parameters are in shards, one in each process; afterwards it has its own again, trained.

    FSDP2 cannot be undone, so a copy of all that is inside the module is sharded. Its own parameters hold no memory
    meanwhile.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    module = losses.module
    own = (module._parameters, module._buffers, module._modules)
    module._parameters, module._buffers, module._modules = copy.deepcopy(own)
    mesh = init_device_mesh(next(module.parameters()).device.type, (processes(),))
    # Layer by layer: of a block some layers may be called before the block itself is.
    for layer in [layer for block in blocks(module) for layer in block.modules()]:
        if isinstance(layer, (nn.Linear, nn.Conv2d, BlockWeight)):
            fully_shard(layer, mesh=mesh)
    fully_shard(losses, mesh=mesh)
    copies = (module._parameters, module._buffers, module._modules)
    module._parameters, module._buffers, module._modules = own
    shapes = {name: parameter.shape for name, parameter in module.named_parameters()}
    for parameter in module.parameters():
        parameter.data = parameter.data.new_empty(0)
    module._parameters, module._buffers, module._modules = copies
    try:
        yield
        parameters = {name: whole(parameter.detach()) for name, parameter in module.named_parameters()}
        buffers = dict(module.named_buffers())
    finally:  # of a training that failed the parameters stay empty: they are in the last save
        module._parameters, module._buffers, module._modules = own
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.data = parameter.data.new_empty(shapes[name])
            parameter.copy_(parameters[name])
        for name, buffer in module.named_buffers():
            buffer.copy_(buffers[name])
