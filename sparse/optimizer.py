"""DropBack (Golub, Lemieux, Lis; arXiv 1806.06949) weight by weight, around any torch optimizer.

The exact reference: everything is computed densely, so it saves nothing but shows what the algorithm does. The block
form that saves time and memory is ``procosm.sparse.dropback``.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from procosm.sparse.errors import SparseError
from procosm.sparse.generator import Initial, as_found
from procosm.sparse.moments import check_optimizer, reset_moments
from procosm.sparse.quantile import QuantileConfig, Threshold
from procosm.sparse.schedule import check_density, initial_share


@dataclass(frozen=True)
class DropBackConfig:
    """DropBack with Procrustes' decay of the initial weights."""

    density: float = 0.1
    """Share of all weights that is tracked; k = round(density * n)."""
    decay: float = 0.9
    """d_t = decay * d_{t-1}, the share of the initial weight that an untracked weight has; 1 is the first DropBack."""
    seed: int = 0
    """64 bits that stand for all initial weights."""
    moments: Literal["keep", "discard"] = "keep"
    """Momentum and Adam's moments of untracked weights: keep them (dense statistics, as the published code does), or
    discard them (what sparse storage can do). Discarding makes every first Adam update the same size, see class."""
    quantile: QuantileConfig = field(default_factory=lambda: QuantileConfig("sort"))
    """How the k largest are found; sort is exact."""

    def __post_init__(self) -> None:
        check_density(self.density)
        if not 0.0 <= self.decay <= 1.0:
            raise SparseError(f"decay {self.decay} is outside [0, 1]: it multiplies the initial weights every step")


class DropBack(Optimizer):
    """One step: the wrapped optimizer moves all weights; the k with the largest |W - d_t W0| over the whole model stay
    where they are, every other one returns to d_t W0.

    Construction sets the named parameters to their regenerated W0. The wrapper shares ``param_groups`` and ``state``
    with the wrapped optimizer, so schedulers, clipping, GradScaler and zero_grad work on it as on any other.

    With Adam and ``moments="discard"`` an untracked weight's first update is lr * (1 - beta1) / sqrt(1 - beta2) times
    the sign of its gradient: all untracked weights tie and the selection among them is arbitrary.
    """

    def __init__(
        self,
        optimizer: Optimizer,
        named_parameters: Iterable[tuple[str, Tensor]],
        config: DropBackConfig,
        initial: Mapping[str, Initial] | None = None,
    ) -> None:
        """Wrap ``optimizer``.

        Args:
            optimizer: any optimizer over the parameters.
            named_parameters: those that take part, biases and norms included in the published algorithm.
            config: see DropBackConfig.
            initial: W0 recipe by name; by default the scale each parameter has now (see generator.as_found).

        Raises:
            SparseError: a named parameter the optimizer does not train, or without a recipe.
        """
        check_optimizer(optimizer)
        self.named = dict(named_parameters)
        self.config, self.optimizer = config, optimizer
        found = {name: as_found(name, parameter, config.seed) for name, parameter in self.named.items()}
        self.initial = found if initial is None else dict(initial)
        self.threshold, self.steps = Threshold(config.quantile), 0
        trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
        strange = [n for n, p in self.named.items() if id(p) not in trained or n not in self.initial]
        if strange or not self.named:
            raise SparseError(f"no optimizer group or no W0 recipe for {strange or 'any parameter'}: give both")
        super().__init__(optimizer.param_groups, optimizer.defaults)
        self._share()
        with torch.no_grad():
            for name, parameter in self.named.items():
                parameter.copy_(self._w0(name, parameter, 1.0))

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """The wrapped optimizer's step, then the selection."""
        loss = self.optimizer.step() if closure is None else self.optimizer.step(closure)
        share = initial_share(self.steps, self.config.decay)
        anchors = {name: self._w0(name, p, share) for name, p in self.named.items()}
        scores = torch.cat([(p - anchors[name]).abs().float().view(-1) for name, p in self.named.items()])
        tracked = self.threshold.select(scores, round(self.config.density * scores.numel()))
        parts = tracked.split([p.numel() for p in self.named.values()])
        for (name, parameter), part in zip(self.named.items(), parts, strict=True):
            mask = part.view(parameter.shape)
            parameter.copy_(torch.where(mask, parameter, anchors[name]))
            if self.config.moments == "discard":
                reset_moments(self.optimizer, parameter, mask)
        self.steps += 1
        return loss

    def tracked(self) -> dict[str, Tensor]:
        """Which weights lie off d_t W0, by name: bool, the parameter's shape. At most k are true."""
        share = initial_share(max(self.steps - 1, 0), self.config.decay)
        return {name: p.detach() != self._w0(name, p, share) for name, p in self.named.items()}

    def state_dict(self) -> dict[str, Any]:
        """The wrapped optimizer's state and, under "dropback", what this class remembers: no copy of any weight."""
        recipes = {name: vars(recipe).copy() for name, recipe in self.initial.items()}
        own = {"steps": self.steps, "estimate": self.threshold.estimate, "initial": recipes}
        return {**self.optimizer.state_dict(), "dropback": own}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume; load the model's weights as well, before or after.

        Raises:
            SparseError: the state is not DropBack's, or of other parameters.
        """
        own = state_dict.get("dropback")
        if own is None or set(own["initial"]) != set(self.named):
            raise SparseError("this optimizer state is not of a DropBack run over the same parameters: start afresh")
        self.optimizer.load_state_dict({key: value for key, value in state_dict.items() if key != "dropback"})
        self.steps, self.threshold.estimate = own["steps"], own["estimate"]
        self.initial = {
            name: Initial(**{**recipe, "shape": tuple(recipe["shape"])}) for name, recipe in own["initial"].items()
        }
        self._share()

    def __getstate__(self) -> dict[str, Any]:
        # torch's state leaves these out; its groups and state are the wrapped optimizer's.
        own = ("defaults", "named", "config", "optimizer", "initial", "threshold", "steps")
        return {name: getattr(self, name) for name in own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state = self.optimizer.param_groups, self.optimizer.state

    def _w0(self, name: str, parameter: Tensor, share: float) -> Tensor:
        if share == 0.0:
            return torch.zeros_like(parameter)
        return self.initial[name].tensor(parameter.device, parameter.dtype) * share
