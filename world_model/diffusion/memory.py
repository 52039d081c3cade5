"""What diffusion dynamics remember: a window of latents, what was done between them, and the state last read."""

from dataclasses import dataclass

import torch
from torch import Tensor

from procosm.world_model.interface import Condition


@dataclass(frozen=True)
class DiffusionMemory:
    """Satisfies :class:`procosm.world_model.interface.Memory`.

    Attributes:
        latents: (b, context, c, h, w), newest last.
        actions: (b, context - 1, a), what was done between them, in the task's own units, NaN where nobody knows.
        states: (b, s), the state read off the latents, in its own units: it is not worked out again.
    """

    latents: Tensor
    actions: Tensor
    states: Tensor

    def take(self, slots: Tensor) -> "DiffusionMemory":
        """The memory of some dreams; a copy."""
        return DiffusionMemory(self.latents[slots], self.actions[slots], self.states[slots])

    @torch.inference_mode()
    def put(self, slots: Tensor, other: "DiffusionMemory") -> None:
        """Replace what is remembered of the dreams in (k,) slots."""
        self.latents[slots], self.actions[slots], self.states[slots] = other.latents, other.actions, other.states

    def with_action(self, action: Tensor) -> Tensor:
        """(b, context, a): what is done at each latent, given (b, a), what is done at the newest."""
        return torch.cat([self.actions, action[:, None]], dim=1)


def context_window(latents: Tensor, context: int) -> Tensor:
    """The last ``context`` of (b, t, …) values; of fewer, the first stands for those before it."""
    missing = context - latents.shape[1]
    if missing <= 0:
        return latents[:, latents.shape[1] - context :]
    return torch.cat([latents[:, :1].expand(-1, missing, *latents.shape[2:]), latents], dim=1)


def past_actions(latents: Tensor, condition: Condition | None, context: int, action_size: int) -> Tensor:
    """(b, context - 1, a) actions between the latents of a window, NaN where the condition does not tell them."""
    unknown = latents.new_full((latents.shape[0], context - 1, action_size), torch.nan)
    if condition is None or condition.actions is None:
        return unknown
    return torch.cat([unknown, condition.actions], dim=1)[:, condition.actions.shape[1] :]
