"""Optimizers that step over live blocks only, in one pass each: the operations ``adam`` and ``sgd`` at work.

Any torch optimizer trains a sparse layer correctly, since padding has zero gradients. These read and write nothing but
the live blocks and, on a GPU, launch one kernel a parameter instead of one an elementary operation.
"""

from abc import abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.adamw import adamw

from procosm.sparse import cpu, stored
from procosm.sparse.autograd import backend
from procosm.sparse.errors import SparseError
from procosm.sparse.weight import BlockWeight

Parameters = nn.Module | Iterable[Tensor] | Iterable[dict[str, Any]] | Iterable[tuple[str, Tensor]]


class _LiveOptimizer(Optimizer):
    """Steps the block values of a model slot by slot, any other parameter as a single block.

    Given parameters or groups of them, as torch's optimizers are, it does not know which slots are live and steps over
    the padding as well, which changes nothing there. ``state_dict`` and pickles hold live blocks only.
    """

    moments: tuple[str, ...]

    def __init__(self, params: Parameters, defaults: dict[str, Any]) -> None:
        wrong = {name: value for name, value in defaults.items() if name != "betas" and not value >= 0}
        if wrong or not all(0 <= beta < 1 for beta in defaults.get("betas", ())):
            raise SparseError(f"{wrong or defaults['betas']}: rates must not be negative, betas lie in [0, 1)")
        self._layers: dict[Tensor, BlockWeight] = {}
        if isinstance(params, nn.Module):
            self._layers = {layer.values: layer for layer in params.modules() if isinstance(layer, BlockWeight)}
            params = [p for p in params.parameters() if p.requires_grad]
        self._one_block: dict[torch.device, Tensor] = {}
        super().__init__(params, defaults)

    def state_dict(self) -> dict[str, Any]:
        """torch's, with the moments of live blocks alone; it loads into any capacity that holds them."""
        state = super().state_dict()
        parameters = [p for group in self.param_groups for p in group["params"]]  # in the order torch numbers them in
        return state | {"state": {i: self._trimmed(parameters[i], kept) for i, kept in state["state"].items()}}

    def __getstate__(self) -> dict[str, Any]:
        # torch's own state leaves out what a subclass adds; copied together with the model, layers stay the model's.
        state, marked = (
            {p: self._trimmed(p, kept) for p, kept in self.state.items()},
            filter(stored.is_marked, self.state),
        )
        return {
            **super().__getstate__(),
            "state": state,
            "marked": [*marked],
            "_layers": self._layers,
            "_one_block": {},
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        own = dict(state)
        for parameter in own.pop("marked", ()):  # torch's load_state_dict, which comes by here, too, has none
            stored.mark(parameter)
        super().__setstate__(own | {"state": defaultdict(dict, own["state"])})
        self._make_room()

    def _trimmed(self, parameter: Tensor, kept: dict[str, Any]) -> dict[str, Any]:
        if not stored.is_marked(parameter):
            return kept
        return kept | {name: stored.trimmed(kept[name]) for name in self.moments if name in kept}

    def _make_room(self) -> None:
        """Give the moments of a saved state the slots of their parameters."""
        for parameter, kept in self.state.items():
            for name in self.moments:
                moment = kept.get(name)
                if moment is None or moment.shape == parameter.shape:
                    continue
                alike = stored.is_marked(parameter) and moment.shape[1:] == parameter.shape[1:]
                if not alike or len(moment) > len(parameter):
                    raise SparseError(
                        f"the saved {name} is {tuple(moment.shape)}, its parameter {tuple(parameter.shape)}: load it "
                        "for the model it was saved with, or one of a larger capacity"
                    )
                kept[name] = stored.with_room(moment, len(parameter))

    # torch declares that a closure returns a float; its own optimizers return the closure's tensor as well.
    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # type: ignore[override]
        """One step on every parameter that has a gradient; a closure is run first and its loss returned."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update([parameter for parameter in group["params"] if parameter.grad is not None], group)
        return loss

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        for parameter in parameters:
            tensors, state = self._slots(parameter, group), self.state[parameter]
            state["step"] += 1
            layer = self._layers.get(parameter)
            if layer is None:
                device = parameter.device
                if device not in self._one_block:
                    self._one_block[device] = torch.tensor([0, 1], dtype=torch.int32, device=device)
                self._apply([t.view(1, 1, -1) for t in tensors], self._one_block[device], group, state["step"])
            else:
                self._apply(tensors, layer.row_ptr, group, state["step"])

    def _slots(self, parameter: nn.Parameter, group: dict[str, Any]) -> list[Tensor]:
        """The parameter, its gradient and its moments."""
        gradient = parameter.grad
        assert gradient is not None
        exact = torch.float64 if parameter.device.type == "cpu" else torch.float32  # the kernels have float32 alone
        if parameter.dtype not in (torch.float32, exact) or gradient.dtype != parameter.dtype:
            raise SparseError(
                f"a parameter is {parameter.dtype}: keep parameters in float32 and compute under autocast"
            )
        state = self.state[parameter]
        if not state:
            # Of one element on the device, if a recorded graph is to go on counting.
            counter = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["step"] = counter if group.get("capturable") else 0
            state |= {name: torch.zeros_like(parameter) for name in self.moments}
        return [parameter, gradient.contiguous(), *(state[name] for name in self.moments)]

    @abstractmethod
    def _apply(self, tensors: list[Tensor], row_ptr: Tensor, group: dict[str, Any], step: int | Tensor) -> None:
        """Call the operation on (parameter, gradient, *moments), each (c, b, b)."""


class AdamW(_LiveOptimizer):
    """torch.optim.AdamW over the live blocks of a model, or over given parameters (arXiv 1711.05101).

    ``capturable`` counts the steps on the device, so that a CUDA graph that recorded a step goes on counting; the
    learning rate it recorded stays.
    Its state has torch's names and shapes, so what moves moments between slots (``matrix.carry``) works on both.
    """

    moments = ("exp_avg", "exp_avg_sq")

    def __init__(
        self, params: Parameters, lr: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: float = 1e-2, capturable: bool = False,
    ) -> None:  # fmt: skip
        defaults = {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "capturable": capturable}
        super().__init__(params, defaults)

    def _update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        together = [parameter for parameter in parameters if backend(parameter) is cpu]
        if len(together) < len(parameters):
            super()._update([parameter for parameter in parameters if backend(parameter) is not cpu], group)
        if not together:
            return
        slots, steps = [], []
        for parameter in together:  # in one call, since a call of its own takes longer than a small parameter's step
            tensors, state, layer = self._slots(parameter, group), self.state[parameter], self._layers.get(parameter)
            if layer is not None and layer.live_blocks < layer.capacity:
                tensors = [t[: layer.live_blocks] for t in tensors]
            slots.append(tensors)
            if not isinstance(state["step"], Tensor):
                state["step"] = torch.tensor(float(state["step"]), dtype=torch.float32)
            steps.append(state["step"])
        values, gradients, means, squares = map(list, zip(*slots, strict=True))
        beta1, beta2 = group["betas"]
        adamw(
            values, gradients, means, squares, [], steps, fused=True, amsgrad=False, maximize=False, lr=group["lr"],
            beta1=beta1, beta2=beta2, weight_decay=group["weight_decay"], eps=group["eps"],
        )  # fmt: skip

    def _apply(self, tensors: list[Tensor], row_ptr: Tensor, group: dict[str, Any], step: int | Tensor) -> None:
        scalars = (group["lr"], *group["betas"], group["eps"], group["weight_decay"], step)
        backend(row_ptr).adam(*tensors, row_ptr, *scalars)


class SGD(_LiveOptimizer):
    """torch.optim.SGD with momentum and L2 decay over the live blocks of a model, or over given parameters."""

    moments = ("momentum_buffer",)

    def __init__(self, params: Parameters, lr: float = 1e-3, momentum: float = 0.0, weight_decay: float = 0.0) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    def _apply(self, tensors: list[Tensor], row_ptr: Tensor, group: dict[str, Any], step: int | Tensor) -> None:
        backend(row_ptr).sgd(*tensors, row_ptr, group["lr"], group["momentum"], group["weight_decay"])
