"""How published models are post-trained: by denoising what follows given latents, one video after another."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from procosm.world_model.data.share import share
from procosm.world_model.data.windows import cut, draw
from procosm.world_model.precision import bfloat16_pays
from procosm.world_model.pretrained.dynamics import PretrainedDynamicsConfig
from procosm.world_model.settings import Share
from procosm.world_model.training.recipes import Recipe, Stage, Training


@dataclass(frozen=True)
class Denoise(Stage):
    """Denoising the frames of one step, given those before it; a step of the model is so many steps of the log."""

    mean_share: Share = 0.25
    """Part of every batch that is trained as the mean from the highest noise level, which dreams take."""

    def run(self, name: str, training: Training) -> dict[str, Any]:
        """See Stage. Videos are coded as they are asked for: the latent of a frame depends on those before it."""
        dynamics, tokenizer, table = training.dynamics, training.tokenizer, training.table

        def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            at, generator = draw(table, self.batch, training.seed + 1, step)
            mean = torch.rand(self.batch, generator=generator) < self.mean_share
            seeds = torch.randint(2**62, (self.batch,), generator=generator)
            mine = range(self.batch)[share().rows(self.batch)]
            window = cut(table, at[share().rows(self.batch)], dynamics.context, dynamics.frames_per_step)
            videos, actions = tokenizer.encode(window.frames), window.actions[:, dynamics.context - 1 :]
            # Each video has its own noise level, which the network takes as one number for all latents.
            each = [
                dynamics.loss(
                    videos[row, None],
                    actions[row, None],
                    window.mask[row, None],
                    bool(mean[i]),
                    torch.Generator().manual_seed(int(seeds[i])),
                )
                for row, i in enumerate(mine)
            ]
            loss = torch.stack(each).mean()
            return loss, {"loss": loss.detach()}

        dynamics.mixed = bfloat16_pays(table.device)
        try:
            return {name: training.optimise(name, dynamics, losses, self)}
        finally:
            dynamics.mixed = False


RECIPES = {
    "debug": Recipe(PretrainedDynamicsConfig(), {"denoise": Denoise(4, 2, 1e-3)}),
    "small": Recipe(PretrainedDynamicsConfig(), {"denoise": Denoise(2000, 8, 1e-4)}),
}
"""Sizes of post-training; those of the networks are published."""
