"""From rollouts to rows: every metric of every method at every horizon, with a 95 % bootstrap interval over windows."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from procosm.agents.judge.intervals import Interval, interval
from procosm.agents.judge.open_loop import Windows, decode, errors
from procosm.benchmarks.dream.fidelity.clipnet import FEATURES, FRAMES, ClipNet, features, frechet
from procosm.benchmarks.dream.fidelity.controls import Rollout
from procosm.benchmarks.dream.fidelity.ssim import ssim
from procosm.world_model.checkpoint import WorldModel

UNITS = {
    "psnr_db": "dB",
    "ssim": "1",
    "latent_mse": "standardised latent²",
    "state_nrmse": "standard deviation",
    "reward_error": "reward",
    "end_brier": "1",
    "false_end": "share of windows",
    "missed_end": "share of ends",
    "frechet_video": "feature²",
}


@dataclass(frozen=True)
class Judge:
    """What is needed to score.

    Attributes:
        net: features of the Fréchet video distance. network: its name.
        state_scale: (s,) deviation of each number of the true state in held-out data.
        horizons: steps after which to compare. seed: of the intervals.
    """

    net: ClipNet
    network: str
    state_scale: np.ndarray
    horizons: tuple[int, ...]
    seed: int


def scores(model: WorldModel, windows: Windows, found: Mapping[str, Rollout], judge: Judge) -> list[dict[str, Any]]:
    """Rows of ``metric, method, horizon, value, unit, low, high, n``.

    ``latent_mse`` is the squared L2 distance of standardised latents for each number of them; ``end_brier`` the mean
    (p − e)² of the end's probability p; ``false_end`` the share of windows that a method holds for ended (p > ½ at some
    step so far) while the truth goes on; ``missed_end`` the share of true ends so far that it never announced.
    """
    rows = []
    for method, rollout in found.items():
        for horizon in judge.horizons:
            for metric, each in _at(model, windows, rollout, horizon, judge):
                row = {"metric": metric, "method": method, "horizon": horizon, "unit": UNITS[metric], **each.as_dict()}
                rows.append(row | ({"network": judge.network} if metric == "frechet_video" else {}))
    return rows


def _at(
    model: WorldModel, windows: Windows, rollout: Rollout, horizon: int, judge: Judge
) -> Iterator[tuple[str, Interval]]:
    there = windows.steps >= horizon
    if not there.any():
        return
    context, t = windows.frames.shape[1] - windows.actions.shape[1], horizon - 1
    clip = range(max(0, horizon - FRAMES), horizon)
    seen = np.stack([decode(model, rollout.latents[there, step]) for step in clip], axis=1)  # (n, t, h, w, 3)
    real = windows.frames[there, context + clip[0] : context + horizon]
    values = errors(
        (seen[:, -1], rollout.latents[there, t], rollout.states[there, t]),
        (real[:, -1], model.encode(real[:, -1:])[:, 0], windows.signals["state"][there, horizon]),
        judge.state_scale,
    )
    values["ssim"] = ssim(seen[:, -1], real[:, -1])
    if rollout.rewards is not None:
        values["reward_error"] = np.abs(rollout.rewards[there, t] - windows.signals["reward"][there, t])
    for metric in (name for name in UNITS if name in values):
        yield metric, interval(_mean, values[metric], seed=judge.seed)
    if rollout.ends is not None:
        yield from _ends(windows, rollout.ends, horizon, judge.seed)
    if len(clip) == FRAMES and len(real) >= FEATURES:
        yield "frechet_video", _distance(features(judge.net, seen), features(judge.net, real), judge.seed)


def _ends(windows: Windows, ends: np.ndarray, horizon: int, seed: int) -> Iterator[tuple[str, Interval]]:
    there = windows.steps >= horizon
    ends_now = windows.ended & (windows.steps == horizon)
    brier = np.square(ends[there, horizon - 1] - ends_now[there])
    yield "end_brier", interval(_mean, brier, seed=seed)
    goes_on = there & ~ends_now
    if goes_on.any():
        yield "false_end", interval(_mean, np.any(ends[goes_on, :horizon] > 0.5, axis=1), seed=seed)
    over = windows.ended & (windows.steps <= horizon)
    if over.any():
        alive = np.arange(ends.shape[1]) < windows.steps[over, None]
        yield "missed_end", interval(_mean, np.all((ends[over] <= 0.5) | ~alive, axis=1), seed=seed)


def _distance(seen: np.ndarray, real: np.ndarray, seed: int) -> Interval:
    """Fréchet distance of two clouds (n, d), whose points belong together in pairs and are drawn together.

    The basic interval's low end may lie below zero: then the clouds cannot be told apart.
    """

    def of(index: np.ndarray) -> np.ndarray:
        drawn = index.astype(int)
        return frechet(seen[drawn], real[drawn])

    return interval(of, np.arange(len(real)), seed=seed, method="basic")


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=-1)
