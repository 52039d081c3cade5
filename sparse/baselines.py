"""Other ways to train sparse, behind the same calls as Procrustes, and ``make``, which builds any of them by name.

static: a random pattern for ever. SET (Mocanu et al., arXiv 1707.04780): drops the smallest, adds at random.
RigL (Evci et al., arXiv 1911.11134): drops the smallest, adds where the gradient is largest. dense: prunes nothing.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from procosm.sparse.dropback import Procrustes, ProcrustesConfig
from procosm.sparse.errors import SparseError
from procosm.sparse.live import LiveWeight
from procosm.sparse.prunable import Prunable, prunable
from procosm.sparse.quantile import top
from procosm.sparse.schedule import allocate, check_density
from procosm.sparse.sparsifier import Sparsifier


@dataclass(frozen=True)
class DenseConfig:
    """No sparsity, nothing to choose."""


@dataclass(frozen=True)
class StaticConfig:
    """A random pattern that never changes."""

    density: float = 0.1
    """Share of the prunable weights that is kept."""
    allocation: Literal["uniform", "erk"] | None = None
    """uniform: the same density in every layer; erk: more in small layers (Erdos-Renyi-Kernel, as RigL uses). None: erk
    for dense layers; sparse layers keep the densities that sparse.convert(allocation=...) gave them."""
    block: int = 1
    """Side of the blocks in dense layers, which are then only simulated; sparse layers have their own."""
    skip: tuple[str, ...] = ()
    """Name patterns (fnmatch) of weights to leave alone, such as "head*"."""
    seed: int = 0
    """Seed of all random choices."""

    def __post_init__(self) -> None:
        check_density(self.density)


@dataclass(frozen=True)
class SwapConfig(StaticConfig):
    """SET and RigL: every so often a share of each layer's kept blocks is exchanged."""

    update_every: int = 100
    """Steps between exchanges."""
    swap: float = 0.3
    """Share of a layer's kept blocks exchanged; RigL's falls to 0 as half a cosine over stop_after."""
    stop_after: int | None = None
    """Last step of an exchange; RigL uses 75 % of the run. None: never stops, no cosine."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 <= self.swap <= 1.0:
            raise SparseError(f"swap={self.swap} is outside [0, 1]: it is the share of kept blocks to exchange")


class Dense(Sparsifier):
    """All weights, all the time; sparse layers stay as they are."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, config: DenseConfig) -> None:
        super().__init__(prunable(model, block=1), optimizer, seed=0, update_every=1, probe_every=1)
        self.config = config

    def probes_at(self, step: int) -> bool:
        """Never."""
        return False


class Static(Sparsifier):
    """A random pattern for ever."""

    def __init__(self, model: nn.Module, optimizer: Optimizer, config: StaticConfig) -> None:
        every = config.update_every if isinstance(config, SwapConfig) else 1
        super().__init__(prunable(model, config.block, config.skip), optimizer, config.seed, every, every)
        self.config = config

    def start(self) -> None:
        """Draw the pattern of masked weights; sparse layers have theirs."""
        kind = self.config.allocation
        densities = allocation(self.weights, self.config.density, kind or "erk")
        for weight, density in zip(self.weights, densities, strict=True):
            kept = weight.kept()
            if kind and isinstance(weight, LiveWeight) and abs(int(kept.sum()) - density * kept.numel()) > 1:
                raise SparseError(
                    f"{weight.name} has density {float(kept.float().mean()):.3f} where {kind} gives {density:.3f}: "
                    f"convert with sparse.convert(model, {self.config.density}, allocation={kind!r})"
                )
        self.draw(densities)

    def probes_at(self, step: int) -> bool:
        """Never."""
        return False


class SET(Static):
    """Exchanges, layer by layer, the smallest kept blocks for random others, which start at zero, moments zero."""

    config: SwapConfig

    def updates_at(self, step: int) -> bool:
        """Multiples of update_every after the first step, up to stop_after."""
        stop = self.config.stop_after
        return super().updates_at(step) and step > 0 and (stop is None or step <= stop)

    def update(self, step: int) -> None:
        """One exchange in every layer, of equal numbers of blocks."""
        ranks = self.growth(step)
        if ranks is None:
            return
        masks = []
        for weight, rank in zip(self.weights, ranks, strict=True):
            kept = weight.kept()
            count = min(round(self.share_at(step) * int(kept.sum())), int((~kept).sum()))
            dropped = top(torch.where(kept, -weight.displacement(0.0), -torch.inf), count)
            grown = top(torch.where(kept, -1, rank), count)
            masks.append((kept & ~dropped) | grown)
        self.set_kept(masks)

    def share_at(self, step: int) -> float:
        """Share of the kept blocks to exchange now."""
        return self.config.swap

    def growth(self, step: int) -> list[Tensor] | None:
        """What ranks the untracked blocks, (Gm, Gn) each, >= 0; None where that is unknown this time."""
        return self.lottery(f"grow/{step}")


class RigL(SET):
    """Exchanges the smallest kept blocks for those with the largest gradient, fewer and fewer."""

    def probes_at(self, step: int) -> bool:
        """Where it updates."""
        return self.updates_at(step)

    def share_at(self, step: int) -> float:
        """swap / 2 * (1 + cos(pi t / stop_after)), RigL section 3."""
        if self.config.stop_after is None:
            return self.config.swap
        return self.config.swap / 2 * (1 + math.cos(math.pi * step / self.config.stop_after))

    def growth(self, step: int) -> list[Tensor] | None:
        """The gradient RMS of each block."""
        return self.gradients()


METHODS: dict[str, tuple[Callable[[nn.Module, Optimizer, Any], Sparsifier], type]] = {
    "dense": (Dense, DenseConfig),
    "static": (Static, StaticConfig),
    "set": (SET, SwapConfig),
    "rigl": (RigL, SwapConfig),
    "procrustes": (Procrustes, ProcrustesConfig),
}


def make(method: str, model: nn.Module, optimizer: Optimizer, **settings: Any) -> Sparsifier:
    """Build a sparsifier by name; ``settings`` are the fields of the method's config.

    Raises:
        SparseError: an unknown method or setting; the message lists those there are.
    """
    if method not in METHODS:
        raise SparseError(f"unknown sparse training method {method!r}: choose one of {', '.join(METHODS)}")
    kind, config = METHODS[method]
    known = [field.name for field in dataclasses.fields(config)]
    strange = sorted(set(settings) - set(known))
    if strange:
        raise SparseError(f"{method} has no setting {', '.join(strange)}; it has {', '.join(known) or 'none'}")
    return kind(model, optimizer, config(**settings))


def allocation(weights: list[Prunable], density: float, kind: str) -> list[float]:
    """Density per layer so that all together have ``density``; see schedule.allocate."""
    return allocate([w.shape for w in weights], [w.kept().numel() * w.block**2 for w in weights], density, kind)
