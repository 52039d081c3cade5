"""The diffusion decoder: tokens become the latents of a continuous tokenizer, which then decodes them (Cosmos §5.2,
arXiv 2501.03575).

A token says little of a patch, and a decoder of tokens shows the mean of all patches that it may stand for. Here a
network denoises the latents of a finer tokenizer beside an embedding of the tokens, so that it shows one of them. One
step from zero shows the mean again. Both tokenizers code the same frames in one latent. Axis letters: n latent.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from procosm.world_model.diffusion.precondition import (
    SIGMA_DATA,
    SIGMA_MAX,
    coefficients,
    sample_sigma,
    uncertainty_loss,
)
from procosm.world_model.diffusion.sampler import noise_for, sample, sigmas_for
from procosm.world_model.diffusion.transformer import DiffusionTransformer, TransformerConfig
from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import MEAN, LatentSpec, Sampling
from procosm.world_model.layers import fourier_features


@dataclass(frozen=True)
class DecoderConfig:
    """Shape and loss of a diffusion decoder."""

    transformer: TransformerConfig = field(default_factory=TransformerConfig)
    """The denoising network."""
    sigma_mean: Annotated[float, Field(ge=-20, le=20)] = 0.0
    """Mean of ln σ in training."""
    sigma_std: Annotated[float, Field(gt=0, le=20)] = 1.5
    """Standard deviation of ln σ in training."""
    mean_share: Annotated[float, Field(ge=0, le=1)] = 0.25
    """Part of every batch trained as one step from zero."""


class DiffusionDecoder(nn.Module):
    """Standardised latents of tokens (b, n, c, h, w), as ``dequantize`` gives them, to those of a finer tokenizer.

    Each latent is denoised beside its own tokens and those before it, and told whether it is the first, which is of one
    frame alone.
    """

    def __init__(self, config: DecoderConfig, tokens: LatentSpec, fine: LatentSpec) -> None:
        """For the latents of two tokenizers.

        Raises:
            ProcosmError: they do not code the same frames together, or the finer grid is no multiple of the other.
        """
        super().__init__()
        (_, h, w), (channels, height, width) = tokens.shape, fine.shape
        self.ratio = height // h
        if tokens.frames_per_latent != fine.frames_per_latent or (h * self.ratio, w * self.ratio) != (height, width):
            raise ProcosmError(
                f"latents of {tokens.frames_per_latent} frames on {h} x {w} places cannot become latents of "
                f"{fine.frames_per_latent} on {height} x {width}: the frames must be the same, and the second sides "
                "multiples of the first"
            )
        self.config, self.shape = config, fine.shape
        self.embed = nn.Sequential(nn.Linear(tokens.shape[0], 64), nn.SiLU(), nn.Linear(64, channels))
        self.net = DiffusionTransformer(config.transformer, fine.shape, context=2, action_size=1)
        self.uncertainty = nn.Linear(128, 1, bias=False)  # u(σ)
        nn.init.zeros_(self.uncertainty.weight)

    def beside(self, coarse: Tensor) -> tuple[Tensor, Tensor]:
        """(b, n, c, h, w) latents of tokens to (b n, 2, c', h', w'), what is seen beside each, and (b n, 1)."""
        seen = self.embed(coarse.movedim(2, -1)).movedim(-1, 2)
        seen = seen.repeat_interleave(self.ratio, 3).repeat_interleave(self.ratio, 4)
        before = torch.cat([seen[:, :1], seen[:, :-1]], dim=1)
        first = torch.zeros(seen.shape[:2], device=seen.device, dtype=seen.dtype)
        first[:, 0] = 1
        return torch.stack([before, seen], dim=2).flatten(0, 1), first.flatten()[:, None]

    def denoise(self, x: Tensor, sigma: Tensor, seen: Tensor, first: Tensor) -> Tensor:
        """D(x; σ): the expected latents, (b, 1, c', h', w'), in units of σ_data."""
        c_skip, c_out, c_in, c_noise = coefficients(sigma)
        return c_skip * x + c_out * self.net(c_in * x, c_noise, seen, first)

    def loss(self, coarse: Tensor, fine: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """``loss, metrics`` of latents of tokens (b, n, c, h, w) and the finer ones of the same clips."""
        seen, first = self.beside(coarse)
        clean = fine.flatten(0, 1)[:, None] * SIGMA_DATA
        b, config = len(clean), self.config
        sigma = sample_sigma(b, config.sigma_mean, config.sigma_std, generator).to(clean)
        noise = torch.randn(clean.shape, generator=generator).to(clean)
        of_mean = (torch.rand(b, generator=generator) < config.mean_share).to(clean.device)
        sigma = torch.where(of_mean, torch.full_like(sigma, SIGMA_MAX), sigma)
        x = torch.where(of_mean.view(-1, 1, 1, 1, 1), 0.0, clean + sigma.view(-1, 1, 1, 1, 1) * noise)
        error = (self.denoise(x, sigma, seen, first) - clean).square().flatten(1).mean(1)
        u = self.uncertainty(fourier_features(sigma.log() / 4, 128))[:, 0]
        loss = uncertainty_loss(error, sigma, u)
        mean = (error.detach() * of_mean).sum() / of_mean.sum().clamp_min(1) / SIGMA_DATA**2
        return loss, {"loss": loss.detach(), "mean": mean}

    @torch.no_grad()
    def forward(
        self,
        coarse: Tensor,
        draws: Sequence[np.random.Generator] | None = None,
        sampling: Sampling = MEAN,
    ) -> Tensor:
        """(b, n, c, h, w) latents of tokens to (b, n, c', h', w'); ``draws`` and ``sampling`` as in ``Dynamics.step``.

        All noise of a clip comes from its one generator.
        """
        seen, first = self.beside(coarse)
        b, n = coarse.shape[:2]
        noise = noise_for(None if sampling.steps == 1 else draws, sampling, (n, *self.shape), coarse)
        start, *others = (each.flatten(0, 1)[:, None] for each in noise)
        sigmas = sigmas_for(sampling, coarse.device).to(coarse.dtype)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            return self.denoise(x, sigma.expand(len(x)), seen, first)

        found = sample(denoise, start * SIGMA_MAX, sigmas, sampling, others) / SIGMA_DATA
        return found.unflatten(0, (b, n))[:, :, 0]
