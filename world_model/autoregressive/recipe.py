"""How autoregressive dynamics are trained, and the sizes they come in."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from procosm.world_model.autoregressive.dynamics import AutoregressiveConfig, AutoregressiveDynamics
from procosm.world_model.autoregressive.transformer import TransformerConfig
from procosm.world_model.data.batch import Batch
from procosm.world_model.data.windows import cut, draw
from procosm.world_model.precision import bfloat16_pays
from procosm.world_model.settings import Count
from procosm.world_model.training.layouts import LAYOUTS, Layout
from procosm.world_model.training.readers import Read, fit_rewards
from procosm.world_model.training.recipes import Recipe, Stage, Training


@dataclass(frozen=True)
class Predict(Stage):
    """The next token of real videos, Medusa heads and the heads that judge with it."""

    horizon: Count = 3
    """Frames after the context in a window."""
    chooses: ClassVar[str] = "dynamics"

    def run(self, name: str, training: Training) -> dict[str, Any]:
        """See Stage."""
        dynamics, table, z = training.dynamics, training.table, training.latents["train"]
        dynamics.reader.requires_grad_(False)  # from here on it judges
        fit_rewards(training)

        def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            at, generator = draw(table, self.batch, training.seed + 1, step)
            return dynamics.loss(cut(table, at, dynamics.context, self.horizon, z), generator)

        dynamics.mixed = bfloat16_pays(table.device)
        try:
            metrics = training.optimise(name, dynamics, losses, self, self.chooses)
        finally:
            dynamics.mixed = False
        return {name: metrics}

    def rehearsal(self, module: AutoregressiveDynamics, batch: Batch) -> tuple[nn.Module, Callable[[], Tensor]]:
        """See Stage; heads are trained on the same tokens every time."""
        device = module.action_low.device
        module.reader.requires_grad_(False)
        module.mixed, batch = bfloat16_pays(device), batch.to(device)
        return module, lambda: module.loss(batch, torch.Generator().manual_seed(0))[0]

    def window_flops(self, dynamics: AutoregressiveDynamics) -> int:
        """See Stage."""
        return dynamics.window_flops(self.horizon)


_TINY = TransformerConfig(32, layers=1, heads=2, kv_heads=1, hidden=64, medusa_heads=2)
_LARGE = TransformerConfig(512, layers=12, heads=8, kv_heads=4, hidden=1536, rope_theta=500_000.0)
COARSE = {"levels": (8, 5, 5, 5), "latent_channels": 4}
"""A thousand tokens: few enough to learn each of them from little data."""
COSMOS = {"levels": (8, 8, 8, 5, 5, 5), "latent_channels": 6}


def llama(size: Layout) -> TransformerConfig:
    """A layout with the proportions of the published models: MLPs of 3.5 d, a quarter as many heads of keys and values
    (arXiv 2501.03575, table 14).
    """
    width, heads = size.width, size.heads
    return TransformerConfig(width, size.layers, heads, heads // 4, width * 7 // 2, rope_theta=500_000.0)


RECIPES = {
    "debug": Recipe(
        AutoregressiveConfig(_TINY),
        {"state_head": Read(20, 8, 1e-3), "tokens": Predict(20, 4, 1e-3, horizon=1)},
        COARSE | {"latent_size": 4},
    ),
    "small": Recipe(
        AutoregressiveConfig(), {"state_head": Read(1500, 256, 1e-3), "tokens": Predict(1200, 8, 2e-3)}, COARSE
    ),
    "base": Recipe(
        AutoregressiveConfig(_LARGE), {"state_head": Read(1500, 256, 1e-3), "tokens": Predict(20_000, 32, 5e-4)}, COSMOS
    ),
} | {
    name: Recipe(
        AutoregressiveConfig(llama(size)),
        {"state_head": Read(1500, 256, 1e-3), "tokens": Predict(100_000, 256, 1e-3 if name == "2b" else 4e-4)},
        COSMOS,
    )
    for name, size in LAYOUTS.items()
}
