"""Where real latents lie, and what brings a dreamed latent back there.

Real latents fill a thin, curved part of their space: they have no more dimensions than what is seen can move in. A
dream leaves it a little at every step, and what the dynamics makes of latents that no frame has, nothing has taught
it. A small autoencoder, fitted to real latents, says what the nearest real one would be. A dreamed latent farther from
that than nearly every real one is drawn towards it, in a straight line, up to that distance; others stay what they are,
bit for bit. That is for dreams far longer than practice (``near_real=True``): a drawn-back dream is always a picture of
the task, not always a right one. Limits on the autoencoder's codes bound all latents of a dream, however long it is.

``procosm.world_model.fit_manifold`` gives a checkpoint one. Letters: n latent, z numbers of a latent, k codes.
"""

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

HIDDEN = 256


class Manifold(nn.Module):
    """An autoencoder of latents and the distance from it that is allowed.

    Attributes:
        low, high: (k,), limits of the codes. radius: (), the distance, Euclidean over all numbers of a latent.
    """

    low: Tensor
    high: Tensor
    radius: Tensor

    def __init__(self, size: int, codes: int) -> None:
        """For latents of ``size`` numbers."""
        super().__init__()
        self.encoder = nn.Sequential(nn.Linear(size, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, codes))
        self.decoder = nn.Sequential(
            nn.Linear(codes, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, HIDDEN), nn.SiLU(), nn.Linear(HIDDEN, size)
        )
        self.register_buffer("low", torch.full((codes,), -math.inf))
        self.register_buffer("high", torch.full((codes,), math.inf))
        self.register_buffer("radius", torch.zeros(()))

    @classmethod
    def like(cls, tensors: Mapping[str, Tensor]) -> "Manifold":
        """One that has room for these tensors, which ``state_dict`` gave."""
        codes, size = tensors["decoder.0.weight"].shape[1], tensors["encoder.0.weight"].shape[1]
        return cls(size, codes)

    def nearest(self, latents: Tensor) -> Tensor:
        """(n, z) real latents that (n, z) latents come nearest to, as far as the autoencoder knows."""
        return self.decoder(self.encoder(latents).clamp(self.low, self.high))

    def forward(self, latents: Tensor) -> Tensor:
        """(n, c, h, w) latents to the same, none of them farther than ``radius`` from its nearest real one."""
        flat = latents.flatten(1)
        nearest = self.nearest(flat)
        apart = flat - nearest
        length = apart.norm(dim=1, keepdim=True)
        drawn = nearest + apart * (self.radius / length.clamp_min(1e-6))
        return torch.where(length > self.radius, drawn, flat).view_as(latents)
