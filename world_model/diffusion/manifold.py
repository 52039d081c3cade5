"""The manifold of real latents, and the way back to it.

A dream's errors lead away from the latents that frames can have, to where nothing was learned: after hundreds of
steps the picture and the estimated state tell different stories. Of hundreds of numbers a latent has, a scene uses a
few; what a latent is beside them is error, and can be told from the latent alone. So a denoising autoencoder ends every
step of a dream (Vincent et al. 2008; its optimum is the posterior mean of the real latent, Alain and Bengio 2014).
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from procosm.world_model.data.share import share
from procosm.world_model.heads import mlp
from procosm.world_model.moments import mean_and_covariance
from procosm.world_model.precision import sent

NARROW = 0.03
"""Spread of an axis along which half of what a latent has is taken for error, in deviations."""
OFFSET = 0.1
"""Median size, in training, of what is added to a latent; ln of it has standard deviation 1. Smaller ones teach only to
leave out what is beside the axes, and dreams then drift along them (LOG.md, "The manifold was flat")."""
TRUE = 0.01
"""Size of an error that counts no more for being smaller."""
BEYOND = 1.1
"""How far along an axis a latent may go, over how far real ones went, before curvature is added; it bounds dreams."""
AXES = 256
"""Principal axes that are kept; a latent has no part along the others."""


class Manifold(nn.Module):
    """From a latent to the real latent that it most probably was; until it is fitted, to itself.

    The best linear answer, Wiener's filter on the principal axes, is known beforehand. A network sees its answer along
    the wider half of the axes, in units of their spread, and adds what curvature makes of it: where the scene moves, a
    latent goes along a surface of a few dimensions that winds through all the wide axes.
    """

    mean: Tensor
    axes: Tensor
    spread: Tensor
    low: Tensor
    high: Tensor
    fitted: Tensor

    def __init__(self, latent_shape: tuple[int, int, int], hidden: int = 512) -> None:
        super().__init__()
        size = math.prod(latent_shape)
        axes = min(size, AXES)
        self.wide = axes // 2
        self.net = mlp(self.wide, hidden, self.wide)
        for p in self.net[-1].parameters():
            nn.init.zeros_(p)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("axes", torch.zeros(size, axes))
        self.register_buffer("spread", torch.ones(axes))
        self.register_buffer("low", torch.zeros(axes))
        self.register_buffer("high", torch.zeros(axes))
        self.register_buffer("fitted", torch.zeros(()))

    @torch.no_grad()
    def fit(self, parts: Iterable[Tensor]) -> None:
        """Mean, principal axes and reach of real latents, in parts (n, c, h, w) that are gone through several times."""
        mean, covariance = mean_and_covariance(parts)  # single precision would make axes of what is none
        self.mean.copy_(mean)
        # Least first; by one library on every device, for each gives the axes signs of its own.
        variance, axes = (found.to(mean.device) for found in torch.linalg.eigh(covariance.cpu()))
        self.axes.copy_(axes.flip(1)[:, : self.axes.shape[1]])
        self.spread.copy_(variance.flip(0)[: self.axes.shape[1]].clamp_min(0).sqrt())
        reaches = [((part.flatten(1) - self.mean) @ self.axes).aminmax(dim=0) for part in parts]
        self.low.copy_(BEYOND * torch.stack([reach.min for reach in reaches]).amin(0))
        self.high.copy_(BEYOND * torch.stack([reach.max for reach in reaches]).amax(0))
        self.fitted.fill_(1.0)

    def forward(self, latents: Tensor) -> Tensor:
        """(b, c, h, w) to the same."""
        keep = self.spread**2 / (self.spread**2 + NARROW**2)
        along = keep * ((latents.flatten(1) - self.mean) @ self.axes).clamp(self.low, self.high)
        bent = keep[: self.wide] * self.net(along[:, : self.wide] / self.spread[: self.wide].clamp_min(NARROW))
        along = torch.cat([along[:, : self.wide] + bent, along[:, self.wide :]], dim=1)
        real = (self.mean + along @ self.axes.T).view_as(latents)
        return torch.lerp(latents, real, self.fitted)  # a branch on it would wait for a GPU at every step

    def loss(self, latents: Tensor, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """What a random offset on (b, c, h, w) real latents leaves behind, relative to its size: our share of them."""
        b = latents.shape[0]
        size = torch.randn(b, 1, 1, 1, generator=generator).exp() * OFFSET
        offset = sent(size * torch.randn(latents.shape, generator=generator), latents.device)
        rows = share().rows(b)
        latents, offset, size = latents[rows], offset[rows], sent(size, latents.device)[rows]
        left = (self(latents + offset) - latents).square().flatten(1).mean(1)
        loss = (left / (size.flatten() ** 2 + TRUE**2)).mean()
        return loss, {"left": loss.detach()}
