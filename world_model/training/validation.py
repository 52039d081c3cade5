"""Is the dream right? Open-loop errors and the growth test, of every kind of dynamics alike, by its interface alone."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from procosm.world_model.data.on_disk import PIECE, Rows, some
from procosm.world_model.data.windows import Table, context_index, cut
from procosm.world_model.encoding import read_off
from procosm.world_model.interface import Condition, Dynamics, Prediction
from procosm.world_model.training.recipes import Training

HORIZON, WINDOWS, TOKEN_WINDOWS = 32, 256, 32
"""Of the open-loop errors that training measures; fewer windows where a frame is predicted token by token."""
GROWTH_HORIZON = 10


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
    dream = list(imagine(dynamics, past, actions))
    shuffled = [each.latents for each in imagine(dynamics, past, actions[order])]

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
        truth = readings(dynamics, name, table, latents, _ahead(table, at, horizon))
        error = (torch.stack([each.readouts[name] for each in dream], 1) - truth) / deviation
        found[name] = [e**0.5 for e in by_horizon(error.square())]
    return found


def _ahead(table: Table, at: Tensor, horizon: int) -> Tensor:
    """(b, horizon) indices of the frames after (b,) frames, the last frame standing still."""
    return torch.minimum(at[:, None] + 1 + torch.arange(horizon, device=at.device), table.last[at][:, None])


class Agreement(NamedTuple):
    """What a dream made of the changes that truly came about since its start.

    Attributes:
        horizon: steps since then. true, dreamed: (n, s), changes in standard deviations.
        slope: least squares of dreamed on true change; 1 is right, .5 is half the rate, 0 stands still.
        error: size of the difference over the size of the true change.
    """

    horizon: int
    true: Tensor
    dreamed: Tensor
    slope: float
    error: float


def agreement(true: Tensor, dreamed: Tensor, there: Tensor) -> Iterator[Agreement]:
    """That of (b, horizon, s) changes, at each horizon at which any of (b, horizon) is there and has changed."""
    for h, here in enumerate(there.bool().unbind(1)):
        x, y = true[here, h], dreamed[here, h]
        size = x.square().sum()
        if size > 0:
            yield Agreement(h + 1, x, y, float((x * y).sum() / size), float(((y - x).square().sum() / size).sqrt()))


@torch.no_grad()
def growth(training: Training, horizon: int = GROWTH_HORIZON) -> list[dict[str, float]]:
    """The growth test: under one constant action, does the true state change in the dream as it does in MuJoCo?

    A model can be right one step ahead and still bend every motion back to where it was (LOG.md). So the dream runs
    for ``horizon`` steps, and after each its change of state since the start is compared with the recorded one, in
    standard deviations, over all episodes that last so long. Without constant-action episodes it begins with each
    held-out episode, under its actions; without states it is features that change.

    Returns:
        a row for each horizon at which something has changed: ``error``, size of the difference over size of the true
        change (0 is perfect, 1 is standing still); ``slope``, least-squares slope of dreamed change on true change (1
        is right, .5 is half the rate); ``n``, episodes.
    """
    kind = "constant" if "constant" in training.tables else "holdout"
    dynamics, table, latents = training.dynamics, training.tables[kind], training.latents[kind]
    k = dynamics.context
    first, last = torch.unique(table.first), torch.unique(table.last)
    at = (first + k - 1)[last - first >= k]  # velocities can be seen, and at least one step follows
    name, deviation = deviations(training)
    if name is None or not len(at):
        return []
    window, past = cut(table, at, k, horizon, latents), latents[context_index(table, at, k)]
    before = read_off(dynamics, name, past)
    dream = [each.readouts[name] for each in imagine(dynamics, past, window.actions[:, k - 1 :])]
    dreamed = (torch.stack(dream, 1) - before[:, None]) / deviation
    start, after = (readings(dynamics, name, table, latents, each) for each in (at, _ahead(table, at, horizon)))
    true = (after - start[:, None]) / deviation
    return [
        {"horizon": each.horizon, "error": each.error, "slope": each.slope, "n": len(each.true)}
        for each in agreement(true, dreamed, window.mask)
    ]


def growth_verdict(rows: list[dict[str, float]], gate: float | None) -> dict[str, Any]:
    """Whether a growth test was passed: at no horizon may the error exceed the gate.

    Returns:
        ``gate``; ``passed``, None where nothing was tested, and then a ``reason``; ``by_horizon``, the rows;
        ``growth_error`` and ``growth_slope`` of the worst horizon ``at_horizon``, judged by ``growth_episodes``.
    """
    if gate is None or not rows:
        why = (
            "this preset has no gate" if gate is None else "no constant-action episode is long enough, or nothing moved"
        )
        return {"gate": gate, "passed": None, "reason": why, "by_horizon": rows}
    worst = max(rows, key=lambda row: row["error"])
    return {
        "gate": gate,
        "passed": worst["error"] <= gate,
        "by_horizon": rows,
        "growth_error": worst["error"],
        "growth_slope": worst["slope"],
        "growth_episodes": worst["n"],
        "at_horizon": worst["horizon"],
    }


def describe_growth(verdict: dict[str, Any]) -> str:
    """A verdict in a sentence, with every horizon's error and episodes."""
    if verdict["passed"] is None:
        return f"growth test while training: nothing was tested, for {verdict['reason']}; `procosm evaluate` judges it"
    each = ", ".join(f"{row['horizon']}: {row['error']:.2f} (n {row['n']})" for row in verdict["by_horizon"])
    said = "passed" if verdict["passed"] else "missed; the dream is not to be trusted far"
    return f"growth test: {said}. Error by step, gate {verdict['gate']}: {each}"
