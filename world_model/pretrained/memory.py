"""What published dynamics remember: the latents that their next video begins with."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class GivenLatents:
    """Satisfies :class:`procosm.world_model.interface.Memory`.

    Attributes:
        latents: (b, given, c, h, w), standardised, newest last.
    """

    latents: Tensor

    def take(self, slots: Tensor) -> "GivenLatents":
        """The memory of some dreams; a copy."""
        return GivenLatents(self.latents[slots])

    @torch.inference_mode()
    def put(self, slots: Tensor, other: "GivenLatents") -> None:
        """Replace what is remembered of the dreams in (k,) slots."""
        self.latents[slots] = other.latents
