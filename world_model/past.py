"""What a dynamics knows of the past when a dream begins: a window of latents, and what was done between them."""

import torch
from torch import Tensor

from procosm.world_model.interface import Condition


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


def with_oldest_actions_unknown(actions: Tensor, context: int) -> Tensor:
    """Of (b, context - 1 + horizon, a) actions those that a dream may know: NaN for the oldest i mod context of row i.

    A dream begins from frames alone and learns what is done from then on.
    """
    row, at = (torch.arange(size, device=actions.device) for size in actions.shape[:2])
    lost = at < (row % context)[:, None]
    return actions.masked_fill(lost[..., None], torch.nan)
