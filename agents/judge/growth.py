"""The growth test: under one constant action, does the dream's true state change as MuJoCo's did?

A model whose one-step error looks small can still let a falling pole fall at half speed, and a policy trained in it
fails. Prediction error hides that; this slope does not. Axis letters: n episode, t step, s true state.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from procosm.agents.judge.intervals import resamples
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.windows import tabulate
from procosm.world_model.errors import DatasetError
from procosm.world_model.training.growth import agreement, changes


def state_deviation(episodes: Sequence[Episode]) -> np.ndarray:
    """(s,) standard deviation of the true state over some episodes; 1 for a number that never varies."""
    deviation = np.concatenate([episode.signals["state"] for episode in episodes]).astype(np.float64).std(axis=0)
    return np.where(deviation > 1e-6, deviation, 1.0)


def _begun(episodes: Sequence[Episode], context: int, horizon: int) -> list[Episode]:
    """Episodes that outlast the context, as far as a dream of ``horizon`` steps follows them."""
    steps = context - 1 + horizon
    return [
        replace(
            each,
            frames=each.frames[: steps + 1],
            actions=each.actions[:steps],
            terminated=each.terminated and len(each.actions) <= steps,
            signals={k: v[: steps + (len(v) > len(each.actions))] for k, v in each.signals.items()},
        )
        for each in episodes
        if len(each.actions) >= context
    ]


def growth(
    model: WorldModel, episodes: Sequence[Episode], horizon: int, state_scale: np.ndarray, seed: int = 0
) -> list[dict[str, float]]:
    """Agreement of dreamed with true change, by horizon.

    ``slope`` is the least-squares factor through the origin (1 is right, .5 is half the rate, 0 stands still),
    ``correlation`` is Pearson's, ``relative_error`` the size of the difference over the size of the true change.
    All numbers of the state count, each divided by ``state_scale`` (s,).

    Returns:
        a row for each horizon that an episode reaches, the slope with a 95 % bootstrap interval over episodes.

    Raises:
        DatasetError: no episode outlasts the context.
    """
    context, rows = model.dynamics.context, list[dict[str, float]]()
    enough = _begun(episodes, context, horizon)
    if not enough:
        raise DatasetError("no constant-action episode outlasts the model's context, so growth cannot be tested")
    table, scale = tabulate(enough, enough[0].kind, context), torch.from_numpy(state_scale)
    latents = model.encode(np.concatenate([each.frames for each in enough]))
    seen = changes(model.dynamics, "state", table.to(latents.device), latents, horizon)
    assert seen is not None  # all are long enough
    true, dreamed, there = (each.cpu() for each in seen)
    for found in agreement(true / scale, dreamed / scale, there):
        x, y = found.true.numpy(), found.dreamed.numpy()
        products, squares = (x * y).sum(axis=1), np.square(x).sum(axis=1)
        again = resamples(len(x), seed)
        low, high = np.percentile(products[again].sum(axis=1) / squares[again].sum(axis=1), (2.5, 97.5))
        varies = x.std() > 0 and y.std() > 0
        rows.append(
            {"horizon": found.horizon, "slope": found.slope, "low": float(low), "high": float(high)}
            | {"correlation": float(np.corrcoef(x.ravel(), y.ravel())[0, 1]) if varies else 0.0}
            | {"relative_error": found.error, "n": len(x)}
        )
    return rows
