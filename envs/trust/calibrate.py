"""Fits trust: forecasts of the true state to logged training episodes, its meaning to dreams of held-out ones.

    python -m procosm.envs.trust.calibrate --world-model RUN/world_model --data RUN/data

``procosm train`` does it at the end of a training; the command gives an older checkpoint its ``trust.safetensors``.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from procosm.envs.trust import coverage
from procosm.envs.trust.trust import Forecasts
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, add_trust, load
from procosm.world_model.data.clip_frames import Damaged
from procosm.world_model.data.datasets import load_episodes, load_task
from procosm.world_model.data.episodes import Episode
from procosm.world_model.errors import DatasetError
from procosm.world_model.settings import Device, Seed, Settings
from procosm.world_model.threads import one_thread

MEMBERS, HIDDEN = 6, 64
STEPS, BATCH, LEARNING_RATE = 1500, 256, 3e-3
BOUND = 0.5
"""Half a deviation of the data, root mean square over the numbers of the state: an error that can be seen."""
HORIZON, WINDOWS = 32, 512
MOMENTS = 1024
"""Moments whose features are read at once."""
START_SHARE = 0.5
"""Size of the forecasts' start errors over that of the state estimate's: 1 drowned the dream's own drift in the growth
of the errors within twenty steps of a pendulum, 0 overrated calm dreams."""


@dataclass(frozen=True)
class CalibrateConfig(Settings):
    """Give a checkpoint its trust."""

    world_model: Path
    """Checkpoint folder (RUN/world_model)."""
    data: Path
    """Dataset or shards of its task (RUN/data): what it was trained on, or another with held-out episodes."""
    seed: Seed = 0
    """Of the forecasts' weights and batches."""
    device: Device = "auto"
    """Where the dreams are computed: auto (CUDA where there is a device), cpu, cuda, or cuda:i."""
    damaged: Damaged = "refuse"
    """What becomes of a damaged shard: refuse or skip."""


@dataclass(frozen=True)
class Dreamed:
    """Dreams of held-out episodes under the logged actions; T steps at most, their start counted as step 0.

    Attributes:
        actions: (n, T, a). dreamed, true: (n, T + 1, s), the task's own units. there: (n, T + 1) whether the step is.
    """

    actions: Tensor
    dreamed: Tensor
    true: Tensor
    there: Tensor


@one_thread()
def calibrate(config: CalibrateConfig) -> Path:
    """Write ``trust.safetensors`` into a checkpoint folder; returns it.

    Raises:
        CheckpointError, DatasetError: one of them cannot be read, or they do not fit.
        TaskError: no true states were logged, and the model reads no features either.
    """
    model, episodes = load(config.world_model, config.device), load_episodes(config.data, True, config.damaged)
    if "features" in model.capabilities:
        known, held_out = (features_of(model, part) for part in _parts(episodes))
        return add_trust(config.world_model, coverage.fit(known, held_out))
    load_task(config.data).require("trust", "state")
    return add_trust(config.world_model, fit(model, episodes, config.seed).state_dict())


def _parts(episodes: Sequence[Episode]) -> tuple[list[Episode], list[Episode]]:
    """Training episodes and all others.

    Raises:
        DatasetError: there are none of one of these.
    """
    chosen = [episode for episode in episodes if episode.kind == "train" and len(episode.actions)]
    held_out = [episode for episode in episodes if episode.kind != "train" and len(episode.actions)]
    if not chosen or not held_out:
        raise DatasetError("trust needs training and held-out episodes: collect more steps (procosm collect --steps)")
    return chosen, held_out


def features_of(model: WorldModel, episodes: Sequence[Episode]) -> Tensor:
    """(n, f) features of every moment of episodes whose speed can be known."""
    context, seen = model.dynamics.context, []
    for episode in episodes:
        latents = model.encode(episode.frames[:])
        first = context - 1 if episode.wide else 0
        past = np.maximum(np.arange(first, len(latents))[:, None] + np.arange(1 - context, 1), 0)
        seen.append(latents[torch.from_numpy(past).to(latents.device)])
    return torch.cat([model.read("features", part) for part in torch.cat(seen).split(MOMENTS)]).cpu()


def fit(model: WorldModel, episodes: Sequence[Episode], seed: int = 0) -> Forecasts:
    """Forecasts fitted to the training episodes and calibrated on all others.

    Raises:
        DatasetError: there are no episodes of either kind.
    """
    chosen, held_out = _parts(episodes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        forecasts = train_forecasts(model, chosen)
        drawn = torch.randn(MEMBERS // 2, model.task.state_size)
    dreams = dream_again(model, held_out)
    with torch.no_grad():
        errors = forecasts.standardise(dreams.true[:, 0]) - forecasts.standardise(dreams.dreamed[:, 0])
        # Robust deviations, because a few badly read states would send every forecast astray; and in opposite pairs,
        # because the mean of a few draws would push all dreams of an unstable task to the same side.
        drawn = drawn * START_SHARE * 1.4826 * errors.abs().median(dim=0).values
        forecasts.start_errors.copy_(torch.cat([drawn, -drawn]))
        settle(forecasts, dreams)
    return forecasts.requires_grad_(False)


def train_forecasts(model: WorldModel, episodes: Sequence[Episode]) -> Forecasts:
    """The networks, each on batches of its own of every logged step."""
    before, after, actions = (
        torch.from_numpy(np.concatenate(parts))
        for parts in zip(*((e.signals["state"][:-1], e.signals["state"][1:], e.actions) for e in episodes), strict=True)
    )
    forecasts = Forecasts(MEMBERS, before.shape[1], actions.shape[1], HIDDEN)
    forecasts.mean.copy_(before.mean(0))
    forecasts.std.copy_(before.std(0).clamp_min(1e-3))
    x, change = forecasts.standardise(before), (after - before) / forecasts.std
    forecasts.change.copy_(change.std(0).clamp_min(1e-6))
    forecasts.low.copy_(torch.tensor(model.task.action_low))
    forecasts.high.copy_(torch.tensor(model.task.action_high))
    target = change / forecasts.change
    optimizer = torch.optim.AdamW(forecasts.parameters(), LEARNING_RATE, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    for _ in range(STEPS):
        at = torch.randint(len(x), (MEMBERS, BATCH))
        unit = torch.stack([actions[row] for row in at])
        loss = F.smooth_l1_loss(forecasts.changes(x[at], unit), target[at], beta=0.5)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return forecasts


@torch.inference_mode()
def dream_again(model: WorldModel, episodes: Sequence[Episode]) -> Dreamed:
    """Open-loop dreams from up to ``WINDOWS`` moments of episodes, spread evenly over them.

    Moments whose speed cannot be known yet (the first frames of a wide start) are left out.
    """
    context = model.dynamics.context
    moments = [(e, now) for e in episodes for now in range(context - 1 if e.wide else 0, len(e.actions))]
    if not moments:
        raise DatasetError(f"no held-out episode has more than {context} frames: collect again")
    chosen = [moments[i] for i in np.linspace(0, len(moments) - 1, min(WINDOWS, len(moments))).astype(int)]
    parts = []
    for episode, now in chosen:
        parts.append(episode.frames[np.maximum(np.arange(now - context + 1, now + 1), 0)])
    latents = model.encode(np.stack(parts))
    ahead = np.arange(HORIZON + 1)
    # A shorter episode stands still at its end; what stands there is not counted.
    index = [np.minimum(now + ahead, len(episode.actions)) for episode, now in chosen]
    true = np.stack([e.signals["state"][i] for (e, _), i in zip(chosen, index, strict=True)])
    taken = np.stack(
        [e.actions[np.minimum(i[:-1], len(e.actions) - 1)] for (e, _), i in zip(chosen, index, strict=True)]
    )
    there = np.stack([now + ahead <= len(episode.actions) for episode, now in chosen])
    actions = torch.from_numpy(taken)
    memory = model.begin(latents, model.text_condition([episode.text for episode, _ in chosen]))
    dreamed = [model.dynamics.read(memory)["state"]]
    for action in actions.to(latents.device).unbind(1):
        memory, prediction = model.dynamics.step(memory, action)
        dreamed.append(prediction.readouts["state"])
    return Dreamed(actions, torch.stack(dreamed, dim=1).cpu(), torch.from_numpy(true), torch.from_numpy(there))


def settle(forecasts: Forecasts, dreams: Dreamed) -> None:
    """Least squares of ln(error) on ln(distance) over all steps of all dreams: what a distance means."""
    states = forecasts.begin(dreams.dreamed[:, 0])
    distances = []
    for action, dreamed in zip(dreams.actions.unbind(1), dreams.dreamed[:, 1:].unbind(1), strict=True):
        states = forecasts.step(states, action)
        distances.append(forecasts.distance(states, dreamed))
    error = ((dreams.dreamed - dreams.true) / forecasts.std).square().mean(dim=2).sqrt()
    # Starts are left out: there the distance is the same everywhere and tells nothing.
    x = torch.stack(distances, dim=1)[dreams.there[:, 1:]].log().double()
    y = error[:, 1:][dreams.there[:, 1:]].clamp_min(1e-4).log().double()
    design = torch.stack([x, torch.ones_like(x)], dim=1)
    line = torch.linalg.lstsq(design, y[:, None]).solution[:, 0]
    deviation = (design @ line - y).std().clamp_min(0.05)  # never surer than this, however few the dreams
    forecasts.calibration.copy_(torch.cat([line, deviation[None]]))
    forecasts.bound.fill_(BOUND)


def main() -> None:
    """The command line."""
    command.main(calibrate, CalibrateConfig)
    print("Dreams of this checkpoint now tell their trust in info['trust'].", file=sys.stderr)


if __name__ == "__main__":
    main()
