"""The growth test of a judged run: does what the model reads of the world change in the dream as it truly did?

A model whose one-step error looks small can still let a falling pole fall at half speed, and a policy trained in it
fails. Prediction error hides that; this slope does not. It is the test of training, ``world_model.evaluation.growth``,
with intervals over episodes. Axis letters: n episode, t step, s number of the state or feature.
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
from procosm.world_model.evaluation import growth as evaluator
from procosm.world_model.evaluation.growth import SAMPLE, Reading, reading_noise
from procosm.world_model.evaluation.open_loop import readings


def state_deviation(episodes: Sequence[Episode]) -> np.ndarray:
    """(s,) standard deviation of the true state over some episodes; 1 for a number that never varies."""
    deviation = np.concatenate([episode.signals["state"] for episode in episodes]).astype(np.float64).std(axis=0)
    return np.where(deviation > 1e-6, deviation, 1.0)


def state_reading(deviation: np.ndarray) -> Reading:
    """Logged states, in (s,) standard deviations; there is no noise in them."""
    return Reading("state", torch.from_numpy(deviation), torch.zeros(()))


@torch.no_grad()
def features_reading(model: WorldModel, episodes: Sequence[Episode], seed: int = 0) -> Reading:
    """Features as the model reads them off frames; deviations and noise are those of ``episodes`` of one kind.

    Of more than some thousand frames, those of a few episodes drawn with ``seed`` are read.
    """
    order = np.random.default_rng(seed).permutation(len(episodes))
    frames = np.cumsum([len(episodes[i].frames) for i in order])
    chosen = [episodes[i] for i in sorted(order[: 1 + int(np.searchsorted(frames, SAMPLE))])]
    latents = model.encode(np.concatenate([each.frames for each in chosen]))
    table = tabulate(chosen, chosen[0].kind, model.dynamics.context).to(latents.device)
    deviation = readings(model.dynamics, "features", table, latents, table.steps).std(0).clamp_min(1e-3)
    return Reading("features", deviation, reading_noise(model.dynamics, "features", table, latents))


def outlasting(episodes: Sequence[Episode], kind: str, context: int) -> list[Episode]:
    """The episodes of a kind in which at least one step follows the context."""
    return [each for each in episodes if each.kind == kind and len(each.actions) >= context]


def growth(
    model: WorldModel, episodes: Sequence[Episode], reading: Reading, horizon: int, seed: int = 0
) -> list[dict[str, float]]:
    """Agreement of dreamed with true change, by horizon, over episodes of one kind.

    ``slope`` is the least-squares factor through the origin (1 is right, .5 is half the rate, 0 stands still),
    ``correlation`` is Pearson's, ``relative_error`` the size of the difference over the size of the true change; of
    features, ``noise`` is the share of the recorded change, in squares, that is noise of reading and not counted.

    Returns:
        a row for each horizon at which something has changed, the slope with a 95 % bootstrap interval over episodes,
        in which the noise has the same share.

    Raises:
        DatasetError: no episode outlasts the context.
    """
    context, rows = model.dynamics.context, list[dict[str, float]]()
    enough = [_begun(each, context - 1 + horizon) for each in episodes if len(each.actions) >= context]
    if not enough:
        raise DatasetError("no episode outlasts the model's context, so growth cannot be tested: collect again")
    latents = model.encode(np.concatenate([each.frames for each in enough]))
    embed = model.embed_text if model.takes_words else None
    table = tabulate(enough, enough[0].kind, context, embed).to(latents.device)
    reading = reading._replace(**{name: getattr(reading, name).to(latents.device) for name in ("deviation", "noise")})
    for found in evaluator.growth(model.dynamics, reading, table, latents, horizon):
        x, y = found.true.cpu().numpy(), found.dreamed.cpu().numpy()
        products, squares = (x * y).sum(axis=1), np.square(x).sum(axis=1) * (1 - found.noise)
        again = resamples(len(x), seed)
        low, high = np.percentile(products[again].sum(axis=1) / squares[again].sum(axis=1), (2.5, 97.5))
        varies = x.std() > 0 and y.std() > 0
        rows.append(
            {"horizon": found.horizon, "slope": found.slope, "low": float(low), "high": float(high)}
            | {"correlation": float(np.corrcoef(x.ravel(), y.ravel())[0, 1]) if varies else 0.0}
            | {"relative_error": found.error, "n": len(x)}
            | ({"noise": found.noise} if reading.name == "features" else {})
        )
    return rows


def _begun(episode: Episode, steps: int) -> Episode:
    """The first so many steps of an episode, no more of which are dreamed."""
    return replace(
        episode,
        frames=episode.frames[: steps + 1],
        actions=episode.actions[:steps],
        terminated=episode.terminated and len(episode.actions) <= steps,
        signals={k: v[: steps + (len(v) > len(episode.actions))] for k, v in episode.signals.items()},
    )
