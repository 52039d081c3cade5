"""Open-loop errors of a model in training, by horizon."""

import torch
from torch import Tensor

from procosm.world_model.data.on_disk import some
from procosm.world_model.data.windows import cut
from procosm.world_model.evaluation.open_loop import METHODS, Recorded, ahead, compared, mean_square, readings, told_of
from procosm.world_model.interface import Dynamics
from procosm.world_model.training.recipes import Training

HORIZON, WINDOWS, TOKEN_WINDOWS = 32, 256, 32
"""Of the open-loop errors that training measures; fewer windows where a frame is predicted token by token."""


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
    order = torch.randperm(len(at), generator=torch.Generator().manual_seed(0)).to(table.device)
    name, deviation = deviations(training)
    truth = None if name is None else readings(dynamics, name, table, latents, ahead(table, at, horizon))
    recorded = Recorded(
        window.latents, window.actions[:, k - 1 :], window.mask, order, told_of(window.signals), name, truth
    )
    found: dict[str, list[float]] = {each: [] for each in (*METHODS, *(() if name is None else (name,)))}
    for step in compared(dynamics, recorded):
        errors = step.latent_errors()
        dreamed, true = step.shown["dream"].reading, step.true.reading
        if name is not None and dreamed is not None and true is not None:
            errors[name] = mean_square((dreamed - true) / deviation)
        for each, error in errors.items():
            mean = float((error * step.there).sum() / step.there.sum().clamp_min(1))
            found[each].append(mean if each != name else mean**0.5)
    return found
