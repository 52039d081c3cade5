"""How far dreams stray from what real latents look like, found by dreaming while training."""

import torch
from torch import Tensor, nn

FRESH = 0.01
"""Chance with which a slot begins again at no offset."""


class Drift(nn.Module):
    """Offsets that a network puts on its own latents, one for each slot, carried from batch to batch.

    The past latents of a real window, moved by a slot's offset, lead to an error; its part across the window's motion
    is the slot's next offset. So a chain of windows drifts as a long dream does, while what moves is held to real ones,
    and a network trained on what its chains have become learns to come back from where it really goes: a random offset
    hardly ever points there. The part along the motion is left out, for it is no drift: a cart seen a little further on
    is a cart that is further on, and to call it back would be friction that the task does not have.

    Attributes:
        offsets: (slots, c, h, w), in units of the latents.
    """

    offsets: Tensor

    def __init__(self, slots: int, latent_shape: tuple[int, int, int]) -> None:
        """No drift yet."""
        super().__init__()
        self.register_buffer("offsets", torch.zeros(slots, *latent_shape))

    def begin(self, latents: Tensor, generator: torch.Generator) -> Tensor:
        """(slots, 1, c, h, w) to add to all past latents of as many windows, (slots, t, c, h, w)."""
        fresh = torch.rand(len(self.offsets), 1, 1, 1, generator=generator).to(latents.device) < FRESH
        self.offsets.copy_(across(torch.where(fresh, 0.0, self.offsets), latents))
        return self.offsets[:, None].clone()

    @torch.no_grad()
    def carry(self, error: Tensor, latents: Tensor, known: Tensor) -> None:
        """Go on from the (slots, c, h, w) errors at the end of the windows, where they are known, (slots,) bool."""
        self.offsets.copy_(torch.where(known.view(-1, 1, 1, 1), across(error, latents), self.offsets))


def across(offsets: Tensor, latents: Tensor) -> Tensor:
    """The part of (b, c, h, w) offsets that is orthogonal to every motion within (b, t, c, h, w) windows."""
    motion = (latents[:, 1:] - latents[:, :-1]).flatten(2).mT
    along, sizes, _ = torch.linalg.svd(motion, full_matrices=False)
    along = along * (sizes > 1e-4 * sizes[:, :1]).unsqueeze(1)  # a window that stands still has no motion
    flat = offsets.flatten(1).unsqueeze(2)
    return (flat - along @ (along.mT @ flat)).view_as(offsets)
