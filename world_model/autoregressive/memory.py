"""What autoregressive dynamics remember: the cache, the newest frame's tokens, and what was last seen."""

from dataclasses import dataclass

import torch
from torch import Tensor

from procosm.world_model.autoregressive.cache import Cache


@dataclass(frozen=True)
class AutoregressiveMemory:
    """Satisfies :class:`procosm.world_model.interface.Memory`.

    Attributes:
        cache: of all tokens but the newest. frame: (b, n), the tokens of the newest frame, the newest last.
        latents: (b, context, c, h, w), newest last.
        read: (b, s), the state, or features, read off the latents, in their own units.
    """

    cache: Cache
    frame: Tensor
    latents: Tensor
    read: Tensor

    def take(self, slots: Tensor) -> "AutoregressiveMemory":
        """The memory of some dreams; a copy."""
        return AutoregressiveMemory(self.cache.take(slots), self.frame[slots], self.latents[slots], self.read[slots])

    @torch.inference_mode()
    def put(self, slots: Tensor, other: "AutoregressiveMemory") -> None:
        """Replace what is remembered of the dreams in (k,) slots."""
        self.cache.put(slots, other.cache)
        self.frame[slots], self.latents[slots], self.read[slots] = other.frame, other.latents, other.read
