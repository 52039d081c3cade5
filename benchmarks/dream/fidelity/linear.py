"""The simplest model that learns: ridge regression from the last few latents and the action to the next latent.

A world model that does not beat it has learned nothing that needed a network. Axis letters: n sample, t step, a action,
s true state; a latent is c × h × w numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.episodes import Episode
from procosm.world_model.errors import DatasetError
from procosm.world_model.interface import Prediction

RIDGES = tuple(10.0**power for power in range(-4, 4))
"""Penalties that are tried, for each sample and in units of the inputs' mean square."""


@dataclass(frozen=True)
class LinearWorld:
    """[change of the latent, reward, end] = [last latents, action, 1] · weights.

    Attributes:
        weights: (context·c·h·w + a + 1, c·h·w + 2).
        low, high: (c, h, w), the range of the training latents, which rollouts are kept within: linear maps explode.
    """

    weights: Tensor
    low: Tensor
    high: Tensor

    def predictions(self, model: WorldModel, context: Tensor, actions: np.ndarray) -> Iterator[Prediction]:
        """As ``open_loop.predictions``; the true state is read by the world model's own probe."""
        latents, device = context, context.device
        weights, low, high = (each.to(device) for each in (self.weights, self.low, self.high))
        for action in torch.from_numpy(actions).to(device).unbind(1):
            out = _inputs(latents, action) @ weights
            latent = latents[:, -1] + out[:, :-2].unflatten(1, latents.shape[2:])
            latent = latent.clamp(low, high)
            latents = torch.cat((latents[:, 1:], latent[:, None]), dim=1)
            outcome = {"reward": out[:, -2], "termination": out[:, -1].clamp(0, 1)}
            yield Prediction(latent, outcome | {"state": model.read("state", latents)})


def fit_linear(model: WorldModel, episodes: Sequence[Episode]) -> LinearWorld:
    """Fitted to real ``episodes``; every tenth of them chooses the penalty, by its error one step ahead.

    Raises:
        DatasetError: too few episodes outlast the model's context.
    """
    context = model.dynamics.context
    long = [episode for episode in episodes if len(episode.actions) >= context]
    if len(long) < 10:
        raise DatasetError(
            f"a linear model needs 10 episodes of {context} steps or more, not {len(long)}: collect again"
        )
    chooses, fits = long[::10], [episode for i, episode in enumerate(long) if i % 10]
    (x, y, latents), (x_new, y_new, _) = _table(model, fits), _table(model, chooses)
    gram, moment = x.T @ x / len(x), x.T @ y / len(x)
    size = torch.eye(len(gram), dtype=x.dtype) * gram.diagonal().mean()
    found = [torch.linalg.solve(gram + ridge * size, moment) for ridge in RIDGES]
    best = min(found, key=lambda weights: float((x_new @ weights - y_new).square().mean()))
    return LinearWorld(best.float(), latents.amin(0), latents.amax(0))


def _inputs(latents: Tensor, action: Tensor) -> Tensor:
    return torch.cat((latents.flatten(1), action, torch.ones_like(action[:, :1])), dim=1)


def _table(model: WorldModel, episodes: Sequence[Episode]) -> tuple[Tensor, Tensor, Tensor]:
    """Float64 inputs (n, i) and targets (n, o) of every step whose context was seen, and all latents (m, c, h, w)."""
    context = model.dynamics.context
    inputs, targets = [], []
    seen = model.encode(np.concatenate([episode.frames for episode in episodes])).cpu()
    for episode, z in zip(episodes, seen.split([len(episode.frames) for episode in episodes]), strict=True):
        pasts = z.unfold(0, context, 1).movedim(-1, 1)[:-1]  # (T − context + 1, context, c, h, w)
        now = context - 1
        inputs.append(_inputs(pasts, torch.from_numpy(episode.actions[now:])))
        ends = torch.zeros(len(pasts))
        ends[-1] = float(episode.terminated)
        outcome = torch.stack((torch.from_numpy(episode.signals["reward"][now:]), ends), dim=1)
        targets.append(torch.cat(((z[context:] - z[now:-1]).flatten(1), outcome), dim=1))
    return torch.cat(inputs).double(), torch.cat(targets).double(), seen
