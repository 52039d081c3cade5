"""What diffusion dynamics remember: a window of latents, what was done between them, and what was last read off it."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DiffusionMemory:
    """Satisfies :class:`procosm.world_model.interface.Memory`.

    Attributes:
        latents: (b, context, c, h, w), newest last.
        actions: (b, context - 1, a), what was done between them, in the task's own units, NaN where nobody knows.
        read: (b, s), the state, or features, read off the latents, in their own units: not worked out again.
        text: (b, l, e), what the dream is told in words, zeros where it is told nothing; l is 0 where it takes none.
    """

    latents: Tensor
    actions: Tensor
    read: Tensor
    text: Tensor

    def take(self, slots: Tensor) -> "DiffusionMemory":
        """The memory of some dreams; a copy."""
        return DiffusionMemory(self.latents[slots], self.actions[slots], self.read[slots], self.text[slots])

    @torch.inference_mode()
    def put(self, slots: Tensor, other: "DiffusionMemory") -> None:
        """Replace what is remembered of the dreams in (k,) slots."""
        self.latents[slots], self.actions[slots], self.read[slots] = other.latents, other.actions, other.read
        self.text[slots] = other.text

    def with_action(self, action: Tensor) -> Tensor:
        """(b, context, a): what is done at each latent, given (b, a), what is done at the newest."""
        return torch.cat([self.actions, action[:, None]], dim=1)
