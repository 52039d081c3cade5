"""How far dreams stray from what real latents look like, found by dreaming while training."""

import torch
from torch import Tensor, nn

FRESH = 0.01
"""Chance with which a slot begins again at no offset."""
ALONG = 0.95
"""Share of the data's variance that the principal axes hold along which an offset is none."""


class Drift(nn.Module):
    """Offsets that a network puts on its own latents, one for each slot, carried from batch to batch.

    The past latents of a real window, moved by a slot's offset, lead to an error; its part across the data is the
    slot's next offset. So a chain of steps drifts as a long dream does, while its motion is held to real windows, and
    a network trained on what its chains have become learns to come back from where it really goes: a random offset
    hardly ever points there. The part along the data is left out, for it is no drift: a pole seen leaning a little more
    is a pole that leans a little more.

    Attributes:
        offsets: (slots, c, h, w), in units of the latents. axes: (k, c h w), orthonormal.
    """

    offsets: Tensor
    axes: Tensor

    def __init__(self, latents: Tensor, slots: int) -> None:
        """No drift yet, beside (n, c, h, w) real latents."""
        super().__init__()
        flat = latents[:: -(-len(latents) // 4096)].flatten(1)
        _, sizes, axes = torch.linalg.svd(flat - flat.mean(0), full_matrices=False)
        held = sizes.square().cumsum(0) / sizes.square().sum().clamp_min(1e-12)
        self.register_buffer("axes", axes[: int((held < ALONG).sum()) + 1], persistent=False)
        self.register_buffer("offsets", latents.new_zeros(slots, *latents.shape[1:]))

    def begin(self, generator: torch.Generator) -> Tensor:
        """(slots, 1, c, h, w) to add to all past latents of as many windows."""
        fresh = torch.rand(len(self.offsets), 1, 1, 1, generator=generator) < FRESH
        self.offsets.mul_(~fresh.to(self.offsets.device))
        return self.offsets[:, None].clone()

    @torch.no_grad()
    def carry(self, error: Tensor, known: Tensor) -> None:
        """Go on from (slots, c, h, w) errors of the latents reached, where they are known, (slots,) bool."""
        flat = error.flatten(1)
        across = (flat - flat @ self.axes.T @ self.axes).view_as(error)
        self.offsets.copy_(torch.where(known.view(-1, 1, 1, 1), across, self.offsets))
