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
        shown: (b, context), 1 for latents that there are, 0 where the oldest stands for one before it; (b, 0) where the
            network is not told.
    """

    latents: Tensor
    actions: Tensor
    read: Tensor
    text: Tensor
    shown: Tensor

    def take(self, slots: Tensor) -> "DiffusionMemory":
        """The memory of some dreams; a copy."""
        held = (self.latents, self.actions, self.read, self.text, self.shown)
        return DiffusionMemory(*(each[slots] for each in held))

    @torch.inference_mode()
    def put(self, slots: Tensor, other: "DiffusionMemory") -> None:
        """Replace what is remembered of the dreams in (k,) slots."""
        self.latents[slots], self.actions[slots], self.read[slots] = other.latents, other.actions, other.read
        self.text[slots], self.shown[slots] = other.text, other.shown

    def shown_next(self) -> Tensor:
        """What is shown after one more step, as ``shown``."""
        return torch.cat([self.shown[:, 1:], torch.ones_like(self.shown[:, :1])], dim=1)

    def with_action(self, action: Tensor) -> Tensor:
        """(b, context, a): what is done at each latent, given (b, a), what is done at the newest."""
        return torch.cat([self.actions, action[:, None]], dim=1)
