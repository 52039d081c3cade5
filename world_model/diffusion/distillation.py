"""Dreams drawn in few steps: consistency distillation (Song et al. 2023, arXiv 2303.01469, Algorithm 2).

A network of many denoising steps is a teacher of one that says, from anywhere on the way from noise to data, where the
way ends. ``Sampling(steps=4, solver="consistency")`` then draws what the teacher needs tens of steps for. Between two
answers that must agree the teacher takes several steps, as in multistep consistency models (Heek et al. 2024,
arXiv 2403.06807), so that what is learned near the end reaches the beginning over few of them.
"""

import copy
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from procosm.world_model.conditioning.frames import mask_of
from procosm.world_model.conditioning.text import some_untold
from procosm.world_model.data.batch import Batch
from procosm.world_model.data.share import share
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.diffusion.precondition import SIGMA_DATA, SIGMA_MAX, SIGMA_MIN
from procosm.world_model.diffusion.sampler import karras_sigmas
from procosm.world_model.precision import sent

HUBER = 0.00054
"""Size of an error, times the root of how many numbers it has, below which it counts by its square (Song and Dhariwal
2023, arXiv 2310.14189, §3.3)."""


class ConsistencyLoss(nn.Module):
    """``loss, metrics`` of dynamics whose network, as it is now, is the teacher of itself.

    The mean of the next latent, one step from zero, is to stay what it is: environments dream by it unless asked.
    """

    def __init__(self, dynamics: DiffusionDynamics, levels: int, stretch: int) -> None:
        """Teach this network.

        Args:
            levels: noise levels of the teacher's way, from the highest down to none.
            stretch: how many of them lie between two answers that must agree.
        """
        super().__init__()
        self.dynamics, self.teacher = dynamics, copy.deepcopy(dynamics.net).requires_grad_(False)
        self.sigmas, self.stretch = karras_sigmas(levels), stretch

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """Of the first step of windows.

        Args:
            batch: the whole batch, of which our share is computed.
        """
        dynamics = self.dynamics
        window = dynamics.standardised(batch)
        seen, clean, actions, counts = dynamics.to_denoise(window)
        b, device = len(clean), clean.device
        at = torch.randint(len(self.sigmas) - 1, (b, 1), generator=generator) + torch.arange(self.stretch + 1)
        noise = sent(torch.randn(clean.shape, generator=generator), device)
        sigmas = sent(self.sigmas[at.clamp_max(len(self.sigmas) - 1)], device)  # (b, stretch + 1)
        rows = share().rows(b)
        text = some_untold(batch.signals.get("text"), rows)
        shown = None if counts is None else mask_of(counts, dynamics.context)[rows]
        told: dict[str, Any] = {"text": text, "shown": shown}
        seen, clean, actions, sigmas, noise = (each[rows] for each in (seen, clean, actions, sigmas, noise))
        high = sigmas[:, 0]
        x, zero, highest = clean + _wide(high) * noise, torch.zeros_like(clean), torch.full_like(high, SIGMA_MAX)
        with torch.no_grad():
            nearer = x
            for sigma, following in pairwise(sigmas.unbind(1)):
                expected = dynamics.denoise(nearer, sigma.clamp_min(SIGMA_MIN), seen, actions, self.teacher, **told)
                moved = expected + _wide(following / sigma.clamp_min(SIGMA_MIN)) * (nearer - expected)
                nearer = torch.where(_wide(sigma) > 0, moved, nearer)  # who has arrived stays there
            end = dynamics.denoise(nearer, sigmas[:, -1].clamp_min(SIGMA_MIN), seen, actions, **told)
            end = torch.where(_wide(sigmas[:, -1]) > 0, end, nearer)
            mean = dynamics.denoise(zero, highest, seen, actions, self.teacher, **told)
        apart = dynamics.denoise(x, high, seen, actions, **told) - end
        size = HUBER * clean[0].numel() ** 0.5
        consistency = ((apart.flatten(1).square().sum(1) + size**2).sqrt() - size).mean() / clean[0].numel() ** 0.5
        kept = (dynamics.denoise(zero, highest, seen, actions, **told) - mean).square().mean() / SIGMA_DATA**2
        loss = consistency + kept
        return loss, {"loss": loss.detach(), "consistency": consistency.detach(), "mean": kept.detach()}


def _wide(sigma: Tensor) -> Tensor:
    """(b,) as (b, 1, 1, 1, 1)."""
    return sigma.view(-1, 1, 1, 1, 1)
