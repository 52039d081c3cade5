"""Is the dream right? Open-loop errors by horizon, of every kind of dynamics alike, by its interface alone."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from procosm.world_model.data.on_disk import PIECE, Rows, some
from procosm.world_model.data.windows import Table, context_index, cut
from procosm.world_model.encoding import read_off
from procosm.world_model.interface import Condition, Dynamics, Prediction
from procosm.world_model.training.recipes import Training

HORIZON, WINDOWS, TOKEN_WINDOWS = 32, 256, 32
"""Of the open-loop errors that training measures; fewer windows where a frame is predicted token by token."""


@torch.no_grad()
def imagine(
    dynamics: Dynamics, latents: Tensor, actions: Tensor, condition: Condition | None = None
) -> Iterator[Prediction]:
    """An open-loop dream: what each of (b, horizon, a) actions leads to, in the task's units, from (b, t, c, h, w)."""
    memory = dynamics.begin(latents, condition)
    for action in actions.unbind(1):
        memory, prediction = dynamics.step(memory, action)
        yield prediction


@torch.no_grad()
def readings(dynamics: Dynamics, name: str, table: Table, latents: Tensor | Rows, at: Tensor) -> Tensor:
    """What ``name`` truly is at (…) frames of a table: states as logged, features as read off real latents; (…, s)."""
    if name == "state":
        return table.signals["state"][at]
    whole = at.flatten()
    parts = [whole] if isinstance(latents, Tensor) else whole.split(PIECE)
    seen = (latents[context_index(table, part, dynamics.context)] for part in parts)
    return torch.cat([read_off(dynamics, name, each) for each in seen]).unflatten(0, at.shape)


def read_name(dynamics: Dynamics) -> str | None:
    """What a dynamics tells of a moment, the state before features; None where it tells neither."""
    return next((name for name in ("state", "features") if name in dynamics.readouts), None)


def deviations(training: Training) -> tuple[str | None, Tensor]:
    """What the dynamics reads, and the standard deviation of each number of it in the training episodes."""
    table, name = training.table, read_name(training.dynamics)
    if name is None:
        return None, torch.ones(0)
    latents = training.latents["train"]
    values = readings(training.dynamics, name, table, latents, some(latents, table.steps))
    return name, values.std(0).clamp_min(1e-3)


@torch.no_grad()
def open_loop(training: Training, horizon: int = HORIZON, windows: int | None = None) -> dict[str, list[float]]:
    """Latent error by horizon on held-out windows, beside copying the last frame and dreaming under shuffled actions.

    Returns:
        ``dream``, ``copy`` and ``shuffled``: mean squared latent error after 1 … horizon steps; ``state`` or
        ``features``: root mean squared error of what the dynamics reads, in standard deviations.
    """
    dynamics, table, latents = training.dynamics, training.tables["holdout"], training.latents["holdout"]
    windows = windows or (WINDOWS if training.tokenizer.spec.vocabulary is None else TOKEN_WINDOWS)
    chosen = torch.linspace(0, len(table.steps) - 1, min(windows, len(table.steps))).long()
    at, k = table.steps[chosen.to(table.device)], dynamics.context
    window = cut(table, at, k, horizon, latents)
    past, future, actions = window.latents[:, :k], window.latents[:, k:], window.actions[:, k - 1 :]
    order = torch.randperm(len(at), generator=torch.Generator().manual_seed(0)).to(table.device)
    told = told_of(window.signals)
    dream = list(imagine(dynamics, past, actions, told))
    shuffled = [each.latents for each in imagine(dynamics, past, actions[order], told)]

    def by_horizon(error: Tensor) -> list[float]:  # (b, horizon, …) to the mean over steps that exist
        error = error.flatten(2).mean(2)
        return ((error * window.mask).sum(0) / window.mask.sum(0).clamp_min(1)).cpu().tolist()

    found = {
        "dream": by_horizon((torch.stack([each.latents for each in dream], 1) - future).square()),
        "copy": by_horizon((past[:, -1:] - future).square()),
        "shuffled": by_horizon((torch.stack(shuffled, 1) - future).square()),
    }
    name, deviation = deviations(training)
    if name is not None:
        truth = readings(dynamics, name, table, latents, ahead(table, at, horizon))
        error = (torch.stack([each.readouts[name] for each in dream], 1) - truth) / deviation
        found[name] = [e**0.5 for e in by_horizon(error.square())]
    return found


def told_of(signals: Mapping[str, Tensor]) -> Condition | None:
    """What was asked for in words in windows, where there is such."""
    return Condition(text=signals["text"]) if "text" in signals else None


def ahead(table: Table, at: Tensor, horizon: int) -> Tensor:
    """(b, horizon) indices of the frames after (b,) frames, the last frame standing still."""
    return torch.minimum(at[:, None] + 1 + torch.arange(horizon, device=at.device), table.last[at][:, None])
