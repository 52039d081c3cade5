"""Is the dream right? Open-loop error and the growth test, on episodes never trained on."""

from typing import Any

import torch
from torch import Tensor

from procosm.world_model.data.windows import Table, context_index, cut
from procosm.world_model.diffusion.dynamics import DiffusionDynamics


@torch.no_grad()
def imagine(dynamics: DiffusionDynamics, context: Tensor, actions: Tensor) -> tuple[Tensor, Tensor]:
    """Open-loop dreams: (b, horizon, c, h, w) latents and (b, horizon, s) standardised states, from (b, context,
    c, h, w) latents, without what was done before, and (b, horizon, a) unit actions.
    """
    k = dynamics.context
    sequence, states = context, []
    taken = torch.cat([actions.new_full((len(actions), k - 1, actions.shape[2]), torch.nan), actions], dim=1)
    for h in range(actions.shape[1]):
        latent = dynamics.advance(sequence[:, -k:], taken[:, h : h + k])
        sequence = torch.cat([sequence, latent[:, None]], dim=1)
        states.append(dynamics.state_head(sequence[:, -k:]))
    return sequence[:, context.shape[1] :], torch.stack(states, dim=1)


@torch.no_grad()
def open_loop(
    dynamics: DiffusionDynamics, table: Table, latents: Tensor, horizon: int, windows: int = 256
) -> dict[str, list[float]]:
    """Latent error by horizon on held-out windows, beside copying the last frame and dreaming under shuffled actions.

    Returns:
        ``dream``, ``copy`` and ``shuffled``: mean squared latent error after 1 … horizon steps; ``state``: root mean
        squared error of the estimated true state, in standard deviations.
    """
    chosen = torch.linspace(0, len(table.steps) - 1, min(windows, len(table.steps))).long()
    at = table.steps[chosen.to(table.device)]
    window = cut(table, latents, at, horizon, dynamics)
    k = dynamics.context
    past, future, actions = window.latents[:, :k], window.latents[:, k:], window.actions[:, k - 1 :]
    order = torch.randperm(len(at), generator=torch.Generator().manual_seed(0)).to(table.device)
    dream, states = imagine(dynamics, past, actions)
    shuffled, _ = imagine(dynamics, past, actions[order])

    def by_horizon(error: Tensor) -> list[float]:  # (b, horizon, …) to the mean over steps that exist
        error = error.flatten(2).mean(2)
        return ((error * window.mask).sum(0) / window.mask.sum(0).clamp_min(1)).cpu().tolist()

    return {
        "dream": by_horizon((dream - future).square()),
        "copy": by_horizon((past[:, -1:] - future).square()),
        "shuffled": by_horizon((shuffled - future).square()),
        "state": [e**0.5 for e in by_horizon((states - window.states).square())],
    }


@torch.no_grad()
def growth(dynamics: DiffusionDynamics, table: Table, latents: Tensor, horizon: int = 10) -> list[dict[str, float]]:
    """The growth test: under one constant action, does the true state change in the dream as it does in MuJoCo?

    A model can be right one step ahead and still bend every motion back to where it was (LOG.md). So the dream runs
    for ``horizon`` steps, and after each its change of state since the start is compared with the recorded one, in
    standard deviations, over all episodes that last so long.

    Returns:
        a row for each horizon at which something has changed: ``error``, size of the difference over size of the true
        change (0 is perfect, 1 is standing still); ``slope``, least-squares slope of dreamed change on true change (1
        is right, .5 is half the rate); ``n``, episodes.
    """
    k = dynamics.context
    first, last = torch.unique(table.first), torch.unique(table.last)
    at = (first + k - 1)[last - first >= k]  # velocities can be seen, and at least one step follows
    window = cut(table, latents, at, horizon, dynamics)
    past = latents[context_index(table, at, k)]
    _, states = imagine(dynamics, past, window.actions[:, k - 1 :])
    dreamed = states - dynamics.state_head(past)[:, None]
    true = window.states - dynamics.state_head.standardise(table.signals["state"][at])[:, None]
    rows = []
    for h, there in enumerate(window.mask.bool().unbind(1)):
        x, y = true[there, h], dreamed[there, h]
        size = x.square().sum()
        if size > 0:
            row = {"error": float(((y - x).square().sum() / size).sqrt()), "slope": float((x * y).sum() / size)}
            rows.append({"horizon": h + 1, **row, "n": int(there.sum())})
    return rows


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
