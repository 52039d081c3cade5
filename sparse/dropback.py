"""Procrustes by blocks: DropBack (arXiv 1806.06949) with what Procrustes adds (arXiv 2009.10976), for sparse storage.

A kept block scores by its accumulated displacement |V - d_t W0|, an untracked one by what one optimizer step would
move it, times a horizon, because it is looked at only now and then. One threshold over the whole model decides.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from procosm.sparse.errors import SparseError
from procosm.sparse.prunable import Prunable, prunable
from procosm.sparse.quantile import QuantileConfig, Threshold, exact, top
from procosm.sparse.schedule import check_density, density_at, initial_share
from procosm.sparse.sharded import whole
from procosm.sparse.sparsifier import Sparsifier


@dataclass(frozen=True)
class ProcrustesConfig:
    """Procrustes at block granularity."""

    density: float = 0.1
    """Share of the prunable weights that is kept, over all layers together."""
    initial_density: float = 1.0
    """Where a density ramp starts; without ramp_steps it has no effect."""
    ramp_steps: int = 0
    """Steps of the cubic ramp from initial_density to density; 0 is sparse from the first step."""
    layer_floor: float = 0.5
    """Least density of each layer, as a share of the model's, so that no layer is cut off."""
    decay: float = 0.9
    """d_t = decay * d_{t-1}: the share of its initial weight W0 that an untracked weight has; in sparse layers, where
    untracked ones are always 0, a kept one. 0: untracked weights are zero from the start, and W0 counts as learnt where
    it is kept."""
    update_every: int = 32
    """Steps between changes of the pattern."""
    probe_every: int = 8
    """Steps between measurements of untracked blocks' gradients; divides update_every."""
    horizon: float | None = None
    """Steps an untracked block's one-step update is multiplied by when it competes; 1 is DropBack's own rule. None:
    update_every, the steps a block just added has had when it is judged; more, and newcomers push out newcomers."""
    hysteresis: float = 0.1
    """delta: a kept block leaves below theta * (1 - delta), another enters above theta * (1 + delta)."""
    max_exchange: float = 0.3
    """Most blocks of a layer that one change of the pattern may replace, as a share of those it keeps; above 0 at least
    one."""
    stop_after: int | None = None
    """Last step at which the pattern may change; None: never stops."""
    block: int = 1
    """Side of the blocks in dense layers, which are then only simulated; sparse layers have their own."""
    skip: tuple[str, ...] = ()
    """Name patterns (fnmatch) of weights to leave alone, such as "head*"."""
    seed: int = 0
    """Seed of the initial weights and of the first pattern."""
    quantile: QuantileConfig = field(default_factory=QuantileConfig)
    """How the threshold is found."""

    def __post_init__(self) -> None:
        check_density(self.density)
        check_density(self.initial_density)
        for name, high in (("decay", 1), ("layer_floor", 1), ("hysteresis", 0.99), ("max_exchange", 1)):
            if not 0 <= getattr(self, name) <= high:
                raise SparseError(f"{name}={getattr(self, name)} is outside [0, {high}]")
        if self.horizon is not None and self.horizon <= 0:
            raise SparseError(f"horizon={self.horizon} must be positive: it multiplies the score of untracked blocks")


class Procrustes(Sparsifier):
    """Keeps the blocks with the largest accumulated change; see Sparsifier for the calls of a training loop.

    Untracked blocks are d_t W0 for the first steps (219 with the default decay) and exact zeros afterwards. A dropped
    block loses its values and moments; an added one starts at d_t W0, moments 0. Sparse layers store no untracked
    block: those are zero from the start, and d_t W0 decays inside the kept ones (the published code's proper_decay).
    """

    def __init__(self, model: nn.Module, optimizer: Optimizer, config: ProcrustesConfig) -> None:
        """Take charge of every sparse layer of ``model``; where there is none, of every dense weight, masked.

        Raises:
            SparseError: nothing to prune, or a dense weight that does not divide into blocks.
        """
        weights = prunable(model, config.block, config.skip)
        super().__init__(weights, optimizer, config.seed, config.update_every, config.probe_every)
        self.config, self.threshold = config, Threshold(config.quantile)
        if config.decay > 0:
            for weight in weights:
                weight.sow(config.seed)

    def start(self) -> None:
        """Masked weights go to W0 and keep blocks by lottery, which the selection after the first step overrules."""
        self.draw([self._density(0)] * len(self.weights), self.share(0))

    def after_step(self, step: int) -> None:
        """See Sparsifier; also returns untracked blocks to d_t W0."""
        super().after_step(step)
        if self.share(step - 1) > 0.0:
            for weight in self.weights:
                weight.hold(self.share(step), self.optimizer)

    def share(self, step: int) -> float:
        """d_t after ``step``; before the first step it is d_0."""
        return initial_share(step, self.config.decay) if self.config.decay > 0 else 0.0

    def updates_at(self, step: int) -> bool:
        """Multiples of update_every up to stop_after."""
        stop = self.config.stop_after
        return super().updates_at(step) and (stop is None or step <= stop)

    def update(self, step: int) -> None:
        """One selection over all layers."""
        gradients = self.gradients()
        if gradients is None:
            return
        scores = [self.score(w, g, step) for w, g in zip(self.weights, gradients, strict=True)]
        masks = self.select(scores, self._density(step))
        for i, (weight, mask) in enumerate(zip(self.weights, masks, strict=True)):
            if step > 0 or weight.initial is None:  # else this selection replaces a lottery, not what was learnt
                masks[i] = limited(weight.kept(), mask, scores[i], self.config.max_exchange)
        self.set_kept(masks, self.share(step))

    def score(self, weight: Prunable, gradient: Tensor, step: int) -> Tensor:
        """float32 (Gm, Gn): scores in units of the weights, hysteresis included so that one threshold serves all.

        Args:
            gradient: mean gradient RMS per element, (Gm, Gn).
        """
        kept, delta = weight.kept(), self.config.hysteresis
        horizon = min(self.config.horizon or self.config.update_every, step + 1.0)
        reach = horizon * step_size(self.optimizer, weight.parameter, int(kept.sum()) * weight.block**2)
        displacement = weight.displacement(self.share(step))
        return torch.where(kept, displacement / (1.0 - delta), gradient * reach / (1.0 + delta))

    def select(self, scores: list[Tensor], rho: float) -> list[Tensor]:
        """Masks bool (Gm, Gn) for scores float32 (Gm, Gn): rho of all weights to 10 %, each layer between its floor and
        its capacity.
        """
        floors = [top(s, round(self.config.layer_floor * rho * s.numel())).view(-1) for s in scores]
        fits = [top(s, w.capacity).view(-1) for s, w in zip(scores, self.weights, strict=True)]
        areas = [torch.full_like(s, w.block**2, dtype=torch.int64) for s, w in zip(scores, self.weights, strict=True)]
        sizes = torch.cat([area.view(-1) for area in areas])
        flat, forced = torch.cat([s.view(-1) for s in scores]), torch.cat(floors)
        free = torch.cat(fits) & ~forced
        budget = round(rho * int(sizes.sum()))
        chosen = forced.clone()
        chosen[free] = self._within(flat[free], max(budget - int(sizes[forced].sum()), 0), sizes[free], budget)
        parts = chosen.split([s.numel() for s in scores])
        return [part.view(s.shape) for part, s in zip(parts, scores, strict=True)]

    def state_dict(self) -> dict[str, Tensor]:
        """See Sparsifier."""
        return {**super().state_dict(), "estimate": torch.tensor(self.threshold.estimate, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """See Sparsifier."""
        super().load_state_dict(state)
        self.threshold.estimate = float(state["estimate"])

    def _density(self, step: int) -> float:
        return density_at(step, self.config.density, self.config.initial_density, self.config.ramp_steps)

    def _within(self, scores: Tensor, left: int, sizes: Tensor, budget: int) -> Tensor:
        """The threshold's choice, or the exact one where an estimator is off by more than 10 % of the budget."""
        mask = self.threshold.select(scores, left, sizes)
        over = int(sizes[mask].sum()) - left
        return mask if abs(over) <= budget / 10 else exact(scores, left, sizes)


def limited(kept: Tensor, mask: Tensor, scores: Tensor, max_exchange: float) -> Tensor:
    """``mask`` with at most max_exchange * (blocks kept) of its exchanges, or one: the best newcomers enter, and
    the best of the blocks that would have left stay. A change of size is not an exchange. All (Gm, Gn).
    """
    added, dropped = mask & ~kept, kept & ~mask
    exchanged = min(int(added.sum()), int(dropped.sum()))
    allowed = max(int(max_exchange * int(kept.sum())), int(max_exchange > 0))
    surplus = exchanged - allowed
    if surplus <= 0:
        return mask
    out = top(torch.where(added, -scores, -torch.inf), surplus)
    stay = top(torch.where(dropped, scores, -torch.inf), surplus)
    return (mask & ~out) | stay


def step_size(optimizer: Optimizer, parameter: nn.Parameter, live: int) -> float:
    """How far one step moves a weight per unit of gradient.

    The learning rate; with Adam lr / (rms sqrt(v_hat) + eps) over the parameter's ``live`` kept weights, because an
    untracked block has no second moment of its own, and a fresh one would make all first updates alike.
    """
    group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
    lr, state = float(group["lr"]), optimizer.state.get(parameter, {})
    if "exp_avg_sq" not in state or live == 0:
        return lr
    correction = 1.0 - group["betas"][1] ** float(state["step"])
    mean_square = float(whole(state["exp_avg_sq"]).float().sum()) / live / correction
    return lr / (mean_square**0.5 + group["eps"])
