"""How many bytes of tensors are alive while something is computed, on real tensors or on such as have no memory."""

import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only
from torch.utils.weak import WeakIdKeyDictionary


class Live(TorchDispatchMode):
    """Within, every tensor that is made is counted for as long as it lives; those that were there before are not.

    Attributes:
        peak: most bytes at once. activations: the same, gradients of the module's parameters left out.
    """

    def __init__(self, module: nn.Module, given: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.peak = self.activations = self._now = self._gradients = 0
        self._known: Any = WeakIdKeyDictionary()
        for tensor in (*module.parameters(), *module.buffers(), *given):
            self._known[tensor.untyped_storage()] = True
        self._hooks = [
            p.register_post_accumulate_grad_hook(self._accumulated) for p in module.parameters() if p.requires_grad
        ]

    def __exit__(self, *failed: Any) -> None:
        super().__exit__(*failed)
        for hook in self._hooks:
            hook.remove()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        tree_map_only(Tensor, self._note, made)
        return made

    def _note(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        if storage in self._known:
            return
        self._known[storage] = True
        size = storage.nbytes()
        self._now += size
        weakref.finalize(storage, self._gone, size)
        self.peak = max(self.peak, self._now)
        self.activations = max(self.activations, self._now - self._gradients)

    def _gone(self, size: int) -> None:
        self._now -= size

    def _accumulated(self, parameter: nn.Parameter) -> None:
        if parameter.grad is not None:
            self._gradients += parameter.grad.nbytes


def without_memory() -> Any:
    """Within, tensors that are made have a shape, a type and a device, but no memory and no numbers."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    return FakeTensorMode()


def backward_bytes(module: nn.Module, loss: Any, given: Iterable[Tensor] = ()) -> Live:
    """What lives while ``loss()`` and its gradient are computed once; gradients are dropped again."""
    with Live(module, given) as live, torch.enable_grad():
        loss().backward()
    module.zero_grad(set_to_none=True)
    return live
