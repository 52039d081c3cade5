"""How diffusion dynamics are trained: what reads latents, the manifold, one step ahead, on their own predictions."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

import torch
from annotated_types import Ge
from torch import Tensor, nn
from tqdm import tqdm

from procosm.world_model.data.batch import Batch
from procosm.world_model.data.on_disk import Parts, in_parts, some
from procosm.world_model.data.windows import context_index, cut, draw
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.distillation import ConsistencyLoss
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.precision import bfloat16_pays
from procosm.world_model.settings import Count, Positive
from procosm.world_model.training.growth import describe_growth, growth, growth_verdict
from procosm.world_model.training.layouts import LAYOUTS
from procosm.world_model.training.readers import Read, fit_rewards
from procosm.world_model.training.recipes import Recipe, Stage, Training
from procosm.world_model.training.validation import open_loop


@contextmanager
def coarse_products(dynamics: DiffusionDynamics, device: torch.device) -> Iterator[None]:
    """Products of the network in bfloat16, where that is faster; in float32 again afterwards."""
    dynamics.mixed = bfloat16_pays(device)
    try:
        yield
    finally:
        dynamics.mixed = False


@dataclass(frozen=True)
class Settle(Stage):
    """What real latents are like, by denoising them."""

    def run(self, name: str, training: Training) -> dict[str, Any]:
        """See Stage."""
        manifold, table, z = training.dynamics.manifold, training.table, training.latents["train"]
        manifold.fit([z] if isinstance(z, Tensor) else Parts(in_parts(z, some(z, torch.arange(len(z)))), z.__getitem__))

        def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            at, generator = draw(table, self.batch, training.seed + 4, step)
            return manifold.loss(z[at + 1], generator)

        return {name: training.optimise(name, manifold, losses, self)}


def freeze_judges(dynamics: DiffusionDynamics) -> None:
    """What reads latents and what knows them judge from now on; they must not bend to what they judge."""
    for judge in (dynamics.reader, dynamics.manifold):
        judge.requires_grad_(False)


@dataclass(frozen=True)
class Diffuse(Stage):
    """Denoising one step ahead."""

    chooses: ClassVar[str] = "dynamics"

    def run(self, name: str, training: Training) -> dict[str, Any]:
        """See Stage."""
        dynamics, table, z = training.dynamics, training.table, training.latents["train"]
        freeze_judges(dynamics)
        with torch.no_grad():
            parts = in_parts(z, some(z, table.steps))
            dynamics.fit_residual(Parts(parts, lambda at: (z[context_index(table, at, 2)], z[at + 1])))
            fit_rewards(training)

        def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            at, generator = draw(table, self.batch, training.seed + 1, step)
            return dynamics.diffusion_loss(cut(table, at, dynamics.context, 1, z), generator)

        with coarse_products(dynamics, table.device):
            return {name: training.optimise(name, dynamics, losses, self, self.chooses)}

    def rehearsal(self, module: DiffusionDynamics, batch: Batch) -> tuple[nn.Module, Callable[[], Tensor]]:
        """See Stage; the noise is the same every time."""
        device = module.action_low.device
        freeze_judges(module)
        module.mixed, batch = bfloat16_pays(device), batch.to(device)
        return module, lambda: module.diffusion_loss(batch, torch.Generator().manual_seed(0))[0]

    def window_flops(self, dynamics: DiffusionDynamics) -> int:
        """See Stage."""
        return dynamics.frame_flops()


@dataclass(frozen=True)
class Unroll(Stage):
    """Self-forced, the model living on its own predictions; again while the growth test is missed.

    It keeps the pattern of live blocks: a dream lives on its own predictions, and a block lost in the middle of it
    costs more than a better one can bring back in the steps that are left.
    """

    horizon: Count = 6
    """Steps of an unrolled window."""
    growth_gate: Positive | None = 0.5
    """Largest relative error of the growth test at any horizon; above it the stage runs again. None: nothing is
    tested."""
    extensions: Annotated[int, Ge(0)] = 2
    """How often it may run again before training stops and says that the gate was missed."""

    def rehearsal(self, module: DiffusionDynamics, batch: Batch) -> tuple[nn.Module, Callable[[], Tensor]]:
        """See Stage."""
        device = module.action_low.device
        freeze_judges(module)
        module.mixed, batch = bfloat16_pays(device), batch.to(device)
        return module, lambda: module.unrolled_loss(batch)[0]

    def window_flops(self, dynamics: DiffusionDynamics) -> int:
        """See Stage; of a stage that does not run again."""
        return self.horizon * dynamics.frame_flops()

    def run(self, name: str, training: Training) -> dict[str, Any]:
        """See Stage."""
        freeze_judges(training.dynamics)
        with coarse_products(training.dynamics, training.table.device):
            return self._run(name, training)

    def _run(self, name: str, training: Training) -> dict[str, Any]:
        dynamics, table, z = training.dynamics, training.table, training.latents["train"]
        metrics: dict[str, Any] = {"before_unrolling": open_loop(training)}
        for round_ in range(1 + self.extensions):
            first = round_ * self.steps

            def losses(step: int, first: int = first) -> tuple[Tensor, dict[str, Tensor]]:
                at, _ = draw(table, self.batch, training.seed + 2, first + step)
                return dynamics.unrolled_loss(cut(table, at, dynamics.context, self.horizon, z))

            metrics[f"{name}-{round_}"] = training.optimise(f"{name}-{round_}", dynamics, losses, self)
            verdict = growth_verdict(growth(training), self.growth_gate)
            tqdm.write(describe_growth(verdict), file=sys.stderr)
            if verdict["passed"] is not False:
                break
        else:
            tqdm.write("Collect more steps or take a larger preset.", file=sys.stderr)
        return metrics | {"growth": verdict}


@dataclass(frozen=True)
class Distill(Stage):
    """The same dreams drawn in few steps, by consistency distillation; see ``distillation``."""

    levels: Annotated[int, Ge(2)] = 20
    """Noise levels of the way that is learned from."""
    stretch: Count = 5
    """Levels between two answers that must agree."""

    def run(self, name: str, training: Training) -> dict[str, Any]:
        """See Stage."""
        dynamics, table, z = training.dynamics, training.table, training.latents["train"]
        dynamics.requires_grad_(False)
        dynamics.net.requires_grad_(True)
        loss = ConsistencyLoss(dynamics, self.levels, self.stretch)

        def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            at, generator = draw(table, self.batch, training.seed + 5, step)
            return loss(cut(table, at, dynamics.context, 1, z), generator)

        with coarse_products(dynamics, table.device):
            return {name: training.optimise(name, loss, losses, self)}


_TINY = TransformerConfig(width=32, layers=1, heads=2, mlp_ratio=2, adaln_rank=4)
_READERS = {"state_head": Read(1500, 256, 1e-3), "manifold": Settle(2000, 512, 4e-3)}


def _recipe(config: DynamicsConfig, diffusion: Diffuse, unroll: Unroll) -> Recipe:
    distill = Distill(diffusion.steps // 2, unroll.batch, diffusion.learning_rate / 10)
    return Recipe(config, {**_READERS, "diffusion": diffusion, "unroll": unroll}, further={"distill": distill})


_SMALL = _recipe(DynamicsConfig(), Diffuse(1200, 128, 1.5e-3), Unroll(300, 64, 4e-4))
RECIPES = {
    "debug": Recipe(
        DynamicsConfig(transformer=_TINY),
        {
            "state_head": Read(20, 8, 1e-3),
            "manifold": Settle(20, 8, 1e-3),
            "diffusion": Diffuse(20, 8, 1e-3),
            "unroll": Unroll(10, 4, 3e-4, horizon=2, growth_gate=None),
        },
        further={"distill": Distill(10, 4, 1e-4)},
    ),
    "small": _SMALL,
    "fast": _recipe(
        DynamicsConfig(transformer=TransformerConfig(patch=4)),
        Diffuse(2000, 128, 1.5e-3),
        Unroll(500, 64, 4e-4),
    ),
    "medium": _recipe(DynamicsConfig(), Diffuse(2200, 128, 1.5e-3), Unroll(500, 64, 4e-4, horizon=12)),
    "base": _recipe(
        DynamicsConfig(transformer=TransformerConfig(width=192, layers=6, heads=6)),
        Diffuse(10000, 256, 1e-3),
        Unroll(3000, 128, 3e-4, horizon=12),
    ),
    # Wide enough that most of a step is products of the kind that sparsity saves; few layers, to stay within an hour.
    "wide": _recipe(
        DynamicsConfig(transformer=TransformerConfig(width=1536, layers=2, heads=12)),
        Diffuse(1200, 128, 3e-4),
        Unroll(300, 64, 1e-4),
    ),
} | {
    name: _recipe(
        DynamicsConfig(transformer=TransformerConfig(size.width, size.layers, size.heads, adaln_rank=256)),
        Diffuse(100_000, 1024, 2**-14.5, weight_decay=0.1),
        Unroll(3000, 128, 2**-16, horizon=12),
    )
    for name, size in LAYOUTS.items()
}
