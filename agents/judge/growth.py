"""The growth test: under one constant action, does the dream's true state change as MuJoCo's did?

A model whose one-step error looks small can still let a falling pole fall at half speed, and a policy trained in it
fails. Prediction error hides that; this slope does not. Axis letters: n episode, t step, s true state.
"""

from collections.abc import Sequence

import numpy as np
import torch

from procosm.agents.judge.intervals import resamples
from procosm.agents.judge.open_loop import Windows, predictions, window
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.episodes import Episode
from procosm.world_model.errors import DatasetError
from procosm.world_model.training.validation import agreement


def state_deviation(episodes: Sequence[Episode]) -> np.ndarray:
    """(s,) standard deviation of the true state over some episodes; 1 for a number that never varies."""
    deviation = np.concatenate([episode.signals["state"] for episode in episodes]).astype(np.float64).std(axis=0)
    return np.where(deviation > 1e-6, deviation, 1.0)


def changes(model: WorldModel, episodes: Sequence[Episode], horizon: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """What the true state did in each episode after its first frames, and what the dream made of it.

    Returns:
        dreamed and true change since the last context frame, (n, horizon, s) each; and (n,), the real steps of each.

    Raises:
        DatasetError: no episode outlasts the context.
    """
    context = model.dynamics.context
    enough = [episode for episode in episodes if len(episode.actions) >= context]
    if not enough:
        raise DatasetError("no constant-action episode outlasts the model's context, so growth cannot be tested")
    windows = Windows.stack([window(episode, 0, context, horizon) for episode in enough])
    begun = model.encode(windows.frames[:, :context])
    with torch.inference_mode():
        origin = model.read("state", begun).cpu().numpy()
    steps = [each.readouts["state"].cpu().numpy() for each in predictions(model, begun, windows.actions)]
    dreamed = np.stack(steps, axis=1)
    states = windows.signals["state"]
    return dreamed - origin[:, None], states[:, 1:] - states[:, :1], windows.steps


def growth(
    model: WorldModel, episodes: Sequence[Episode], horizon: int, state_scale: np.ndarray, seed: int = 0
) -> list[dict[str, float]]:
    """Agreement of dreamed with true change, by horizon.

    ``slope`` is the least-squares factor through the origin (1 is right, .5 is half the rate, 0 stands still),
    ``correlation`` is Pearson's, ``relative_error`` the size of the difference over the size of the true change.
    All numbers of the state count, each divided by ``state_scale`` (s,).

    Returns:
        a row for each horizon that an episode reaches, the slope with a 95 % bootstrap interval over episodes.
    """
    dreamed, true, steps = changes(model, episodes, horizon)
    rows: list[dict[str, float]] = []
    there = torch.from_numpy(steps)[:, None] > torch.arange(horizon)
    happened, imagined = (torch.from_numpy(each / state_scale) for each in (true, dreamed))
    for found in agreement(happened, imagined, there):
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
