"""Optimizers that step over live blocks only, in one pass each: the operations ``adam`` and ``sgd`` at work.

Any torch optimizer trains a sparse layer correctly, since padding has zero gradients. These read and write nothing but
the live blocks and, on a GPU, launch one kernel a parameter instead of one an elementary operation.
"""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from procosm.sparse.autograd import backend
from procosm.sparse.errors import SparseError
from procosm.sparse.weight import BlockWeight


class _LiveOptimizer(Optimizer):
    """Steps every parameter of a model: block values slot by slot, any other parameter as a single block."""

    moments: tuple[str, ...]

    def __init__(self, model: nn.Module, defaults: dict[str, Any]) -> None:
        wrong = {name: value for name, value in defaults.items() if name != "betas" and not value >= 0}
        if wrong or not all(0 <= beta < 1 for beta in defaults.get("betas", ())):
            raise SparseError(f"{wrong or defaults['betas']}: rates must not be negative, betas lie in [0, 1)")
        self._layers = {layer.values: layer for layer in model.modules() if isinstance(layer, BlockWeight)}
        self._one_block: dict[torch.device, Tensor] = {}
        super().__init__([p for p in model.parameters() if p.requires_grad], defaults)

    # torch declares that a closure returns a float; its own optimizers return the closure's tensor as well.
    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One step on every parameter that has a gradient; a closure is run first and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, parameter.grad, group)
        return loss

    def _update(self, parameter: nn.Parameter, gradient: Tensor, group: dict[str, Any]) -> None:
        if parameter.dtype != torch.float32 or gradient.dtype != torch.float32:
            raise SparseError(
                f"a parameter is {parameter.dtype}: keep parameters in float32 and compute under autocast"
            )
        state = self.state[parameter]
        if not state:
            # Of one element on the device, if a recorded graph is to go on counting.
            state["step"] = torch.zeros((), device=parameter.device) if group.get("capturable") else 0
            state |= {name: torch.zeros_like(parameter) for name in self.moments}
        state["step"] += 1
        tensors = [parameter, gradient.contiguous(), *(state[name] for name in self.moments)]
        if parameter in self._layers:
            self._apply(tensors, self._layers[parameter].row_ptr, group, state["step"])
            return
        if parameter.device not in self._one_block:
            self._one_block[parameter.device] = torch.tensor([0, 1], dtype=torch.int32, device=parameter.device)
        tensors = [t.view(1, 1, -1) for t in tensors]
        self._apply(tensors, self._one_block[parameter.device], group, state["step"])

    @abstractmethod
    def _apply(self, tensors: list[Tensor], row_ptr: Tensor, group: dict[str, Any], step: int | Tensor) -> None:
        """Call the operation on (parameter, gradient, *moments), each (c, b, b)."""


class AdamW(_LiveOptimizer):
    """torch.optim.AdamW over the live blocks of a model (arXiv 1711.05101).

    ``capturable`` counts the steps on the device, so that a CUDA graph that recorded a step goes on counting; the
    learning rate it recorded stays.
    Its state has torch's names and shapes, so what moves moments between slots (``matrix.carry``) works on both.
    """

    moments = ("exp_avg", "exp_avg_sq")

    def __init__(
        self, model: nn.Module, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, capturable: bool = False,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "capturable": capturable}
        super().__init__(model, defaults)

    def _apply(self, tensors: list[Tensor], row_ptr: Tensor, group: dict[str, Any], step: int | Tensor) -> None:
        scalars = (group["lr"], *group["betas"], group["eps"], group["weight_decay"], step)
        backend(row_ptr).adam(*tensors, row_ptr, *scalars)


class SGD(_LiveOptimizer):
    """torch.optim.SGD with momentum and L2 decay over the live blocks of a model."""

    moments = ("momentum_buffer",)

    def __init__(self, model: nn.Module, lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(model, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def _apply(self, tensors: list[Tensor], row_ptr: Tensor, group: dict[str, Any], step: int | Tensor) -> None:
        backend(row_ptr).sgd(*tensors, row_ptr, group["lr"], group["momentum"], group["weight_decay"])
