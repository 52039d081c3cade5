"""Open loop: a dream of recorded frames under the recorded actions, step by step, beside what must be worse."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from procosm.world_model.data.on_disk import Rows, in_parts
from procosm.world_model.data.windows import Table, context_index
from procosm.world_model.encoding import read_off
from procosm.world_model.interface import Condition, Dynamics, Prediction

METHODS = ("dream", "copy", "shuffled")
"""The dream of a window's own actions, the last real frame, which stays, and the dream of another window's actions."""


@dataclass(frozen=True)
class Recorded:
    """(b,) windows as they were recorded.

    Attributes:
        latents: (b, context + horizon, c, h, w). actions: (b, horizon, a), in the task's units, from the last context
            frame on. there: (b, horizon), whether the episode lasts so long; nothing is compared where it does not.
        order: (b,) int64, whose actions each window has where they are shuffled.
        condition: what else the dreams are told.
        read: what is read of a moment, such as ``state``, where that is compared, too. readings: (b, horizon, s), what
            it truly is after each step.
    """

    latents: Tensor
    actions: Tensor
    there: Tensor
    order: Tensor
    condition: Condition | None = None
    read: str | None = None
    readings: Tensor | None = None


class Shown(NamedTuple):
    """(b, c, h, w) latents of one moment, and (b, s), what is read of it; None where that is not compared."""

    latents: Tensor
    reading: Tensor | None


class Compared(NamedTuple):
    """One step of (b,) windows.

    Attributes:
        there: (b,) bool, where there is something to compare with. true: what was recorded.
        shown: what each of ``METHODS`` makes of it; copying reads nothing.
    """

    there: Tensor
    true: Shown
    shown: dict[str, Shown]

    def latent_errors(self) -> dict[str, Tensor]:
        """(b,) mean squared errors of latents, by method."""
        return {name: mean_square(each.latents - self.true.latents) for name, each in self.shown.items()}


@torch.no_grad()
def imagine(
    dynamics: Dynamics, latents: Tensor, actions: Tensor, condition: Condition | None = None
) -> Iterator[Prediction]:
    """An open-loop dream: what each of (b, horizon, a) actions leads to, in the task's units, from (b, t, c, h, w)."""
    memory = dynamics.begin(latents, condition)
    for action in actions.unbind(1):
        memory, prediction = dynamics.step(memory, action)
        yield prediction


def compared(dynamics: Dynamics, recorded: Recorded) -> Iterator[Compared]:
    """The dream of recorded windows and its controls, step by step, beside what truly came."""
    past, future = recorded.latents[:, : dynamics.context], recorded.latents[:, dynamics.context :]
    dreams, others = (
        imagine(dynamics, past, actions, recorded.condition)
        for actions in (recorded.actions, recorded.actions[recorded.order])
    )
    for t, predictions in enumerate(zip(dreams, others, strict=True)):
        dream, shuffled = (_shown(each, recorded.read) for each in predictions)
        true = Shown(future[:, t], None if recorded.readings is None else recorded.readings[:, t])
        shown = dict(zip(METHODS, (dream, Shown(past[:, -1], None), shuffled), strict=True))
        yield Compared(recorded.there[:, t].bool(), true, shown)


def _shown(prediction: Prediction, read: str | None) -> Shown:
    return Shown(prediction.latents, None if read is None else prediction.readouts[read])


def mean_square(difference: Tensor) -> Tensor:
    """(b,) errors from (b, …) differences: of latents, or of what is read off them in standard deviations."""
    return difference.square().flatten(1).mean(1)


@torch.no_grad()
def readings(dynamics: Dynamics, name: str, table: Table, latents: Tensor | Rows, at: Tensor) -> Tensor:
    """What ``name`` truly is at (…) frames of a table: states as logged, features as read off real latents; (…, s)."""
    if name == "state":
        return table.signals["state"][at]
    whole = at.flatten()
    seen = (latents[context_index(table, part, dynamics.context)] for part in in_parts(latents, whole))
    return torch.cat([read_off(dynamics, name, each) for each in seen]).unflatten(0, at.shape)


def told_of(signals: Mapping[str, Tensor]) -> Condition | None:
    """What was asked for in words in windows, where there is such."""
    return Condition(text=signals["text"]) if "text" in signals else None


def ahead(table: Table, at: Tensor, horizon: int) -> Tensor:
    """(b, horizon) indices of the frames after (b,) frames, the last frame standing still."""
    return torch.minimum(at[:, None] + 1 + torch.arange(horizon, device=at.device), table.last[at][:, None])
