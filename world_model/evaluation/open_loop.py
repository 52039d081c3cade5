"""Open loop: a dream of recorded frames under the recorded actions, step by step, beside what must be worse."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from procosm.world_model.data.on_disk import PIECE, Rows
from procosm.world_model.data.windows import Table, context_index
from procosm.world_model.encoding import read_off
from procosm.world_model.interface import Condition, Dynamics, Prediction


class Compared(NamedTuple):
    """One step of (b,) windows.

    Attributes:
        dream: what the dynamics makes of the windows' own actions. shuffled: of the actions of other windows.
        last: (b, c, h, w), the last real latents, which copying keeps.
    """

    dream: Prediction
    shuffled: Prediction
    last: Tensor

    def latents(self) -> dict[str, Tensor]:
        """What the dream and each control show, (b, c, h, w)."""
        return {"dream": self.dream.latents, "shuffled": self.shuffled.latents, "copy": self.last}


@torch.no_grad()
def imagine(
    dynamics: Dynamics, latents: Tensor, actions: Tensor, condition: Condition | None = None
) -> Iterator[Prediction]:
    """An open-loop dream: what each of (b, horizon, a) actions leads to, in the task's units, from (b, t, c, h, w)."""
    memory = dynamics.begin(latents, condition)
    for action in actions.unbind(1):
        memory, prediction = dynamics.step(memory, action)
        yield prediction


def compared(
    dynamics: Dynamics, past: Tensor, actions: Tensor, order: Tensor, condition: Condition | None = None
) -> Iterator[Compared]:
    """The dream and its controls, a step for each of (b, horizon, a) actions, from (b, t, c, h, w) real latents.

    Args:
        order: (b,) int64, whose actions each window has where they are shuffled.
    """
    dreams, others = (imagine(dynamics, past, each, condition) for each in (actions, actions[order]))
    for dream, shuffled in zip(dreams, others, strict=True):
        yield Compared(dream, shuffled, past[:, -1])


def mean_square(difference: Tensor) -> Tensor:
    """(b,) errors from (b, …) differences: of latents, or of what is read off them in standard deviations."""
    return difference.square().flatten(1).mean(1)


@torch.no_grad()
def readings(dynamics: Dynamics, name: str, table: Table, latents: Tensor | Rows, at: Tensor) -> Tensor:
    """What ``name`` truly is at (…) frames of a table: states as logged, features as read off real latents; (…, s)."""
    if name == "state":
        return table.signals["state"][at]
    whole = at.flatten()
    parts = [whole] if isinstance(latents, Tensor) else whole.split(PIECE)
    seen = (latents[context_index(table, part, dynamics.context)] for part in parts)
    return torch.cat([read_off(dynamics, name, each) for each in seen]).unflatten(0, at.shape)


def told_of(signals: Mapping[str, Tensor]) -> Condition | None:
    """What was asked for in words in windows, where there is such."""
    return Condition(text=signals["text"]) if "text" in signals else None


def ahead(table: Table, at: Tensor, horizon: int) -> Tensor:
    """(b, horizon) indices of the frames after (b,) frames, the last frame standing still."""
    return torch.minimum(at[:, None] + 1 + torch.arange(horizon, device=at.device), table.last[at][:, None])
