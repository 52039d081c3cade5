"""Is trust right? Dreams and MuJoCo under the same actions: AUROC against the true error, calibration, long dreams.

    python -m procosm.benchmarks.dream.trust --checkpoint envs/checkpoints/InvertedPendulum \\
        --policies runs/a.zip runs/b.zip

Actions come from what acts in the dream: uniform and smooth noise, and saved policies, whole and degraded. MuJoCo
follows from the same start. The error is the root mean square, over the numbers of the true state, of the dream's
estimate less MuJoCo's state in deviations of the data; a step is good where it is within the bound trust is about.
"""

import dataclasses
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from procosm.agents.judge.by_run import PLAIN, SHARE, Scale, jackknife
from procosm.agents.judge.intervals import Statistic
from procosm.agents.judge.ranking.members import CONTROLS, Member
from procosm.agents.judge.ranking.paired import Actor, first_frames
from procosm.agents.judge.rollouts import dreams_from
from procosm.agents.judge.stats import auroc
from procosm.agents.policy.worlds import truth
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.dream.long_dreams import long_dream_rows
from procosm.benchmarks.dream.trust_clock import brier_skill, excess, within_horizon
from procosm.benchmarks.record import RESULTS, in_files, record
from procosm.envs.dreams.weights import find_checkpoint
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.errors import CheckpointError
from procosm.world_model.precision import has_bfloat16
from procosm.world_model.settings import Count

FIRST_SEED = 9_200_000
HORIZONS = (4, 8, 12, 16, 24, 32, 48)
DEGRADED = 0.3
"""Chance with which a degraded policy's action is a uniform one."""
BINS = 10
COST_BATCH, COST_ROUNDS, COST_STEPS = 256, 9, 6

OfSteps = Callable[[np.ndarray, np.ndarray, np.ndarray], Any]
"""What is told, whether each step was good, and which steps there are, (n, steps) each, to one number."""


@dataclass(frozen=True)
class TrustConfig(OnDevice):
    """Judge the trust of one world model."""

    checkpoint: Path
    """Checkpoint or run folder of the world model."""
    policies: tuple[Path, ...] = ()
    """Saved policies that act on states, beside the two kinds of noise."""
    trust_pickle: bool = False
    """Open policies that SB3 saved, too: their pickles run whatever code is in them."""
    episodes: Count = 100
    """Dreams of each behaviour."""
    steps: Count = 100
    """Steps of each dream at most."""
    long_seeds: Count = 32
    """Dreams that are followed for long_steps."""
    long_steps: Count = 1000
    """Steps of a long dream, whatever the model says of its end."""
    out: Path = RESULTS
    """Folder of the result."""
    quick: bool = False
    """A minute: a few short dreams."""


@dataclass(frozen=True)
class Followed:
    """Dreams of one behaviour that MuJoCo followed.

    Attributes:
        trust, error: (n, T). there: (n, T), whether the dream was still going on before the step.
    """

    trust: np.ndarray
    error: np.ndarray
    there: np.ndarray


def main(config: TrustConfig) -> Path:
    """Follow the dreams and write ``trust_<task>.json``."""
    if config.quick:
        config = dataclasses.replace(config, episodes=16, steps=40, long_seeds=4, long_steps=100)
    model = load(find_checkpoint(config.checkpoint, None), config.device)
    model.task.require("trust", "state", "twin")
    if model.trust is None:
        raise CheckpointError(
            f"{config.checkpoint} has no trust.safetensors: python -m procosm.envs.trust.calibrate --help"
        )
    seeds = list(range(FIRST_SEED, FIRST_SEED + config.episodes))
    begun = first_frames(model.task, seeds)
    bound, rows, every = float(model.trust["bound"]), [], []
    for member in behaviours(config.policies, config.trust_pickle):
        found = follow(model, member, seeds, begun, config.steps)
        every.append(found)
        rows += trust_rows(found, bound, member.name)
    together = [np.concatenate([getattr(found, name) for found in every]) for name in ("trust", "error", "there")]
    rows += trust_rows(Followed(*together), bound, "all behaviours")
    for member in behaviours(config.policies, config.trust_pickle)[
        1:3
    ]:  # smooth noise, and the first policy where there is one
        rows += long_dream_rows(model, member, config.long_seeds, config.long_steps)
    rows.append(cost_row(model))
    name = in_files(model.task.id)
    details = {
        "reading": reading(rows),
        "bound": f"root mean square error of the state at most {bound} deviations of the data",
        "first_seed": FIRST_SEED,
        "world_model": {key: model.provenance.get(key) for key in ("commit", "command", "date")},
        "intervals": "95 % jackknife over dreams, all steps of a dream together",
    }
    return record(f"trust_{name}", [{"task": model.task.id, **row} for row in rows], config.out, details)


def reading(rows: Sequence[dict[str, Any]]) -> str:
    """What the rows of all behaviours say of trust beside a clock."""
    found = {row["metric"]: row for row in rows if row["behaviour"] == "all behaviours" and "horizon" not in row}
    told, beside = found.get("AUROC within one horizon"), found.get("Brier skill over a clock")
    if not told or not beside or "low" not in told or "low" not in beside:
        return "too few good or bad steps to say what trust adds to a clock"
    adds = told["low"] > 0.5 and beside["low"] > 0
    return (
        f"Among steps equally long after their starts trust tells good ones from bad ones with an AUROC of "
        f"{told['value']:.3f} [{told['low']:.3f}, {told['high']:.3f}], where a clock has .5; its Brier score is better "
        f"than that of a clock by {beside['value']:.3f} [{beside['low']:.3f}, {beside['high']:.3f}] of it. "
        + ("It adds to a clock." if adds else "It does not add to a clock what could be told apart from nothing.")
    )


def behaviours(policies: Sequence[Path], trust_pickle: bool = False) -> list[Member]:
    """What acts: noise of both kinds, each policy, and each policy degraded."""
    noise = [member for member in CONTROLS if member.name != "zero"]
    folders = [path.parent.parent if path.parent.name == "policy" else path.parent for path in policies]
    names = [f.name if p.stem == "policy" else p.stem for f, p in zip(folders, policies, strict=True)]
    whole = [Member(name, "", path=path, trust_pickle=trust_pickle) for name, path in zip(names, policies, strict=True)]
    degraded = [dataclasses.replace(m, name=f"{m.name} eps {DEGRADED}", epsilon=DEGRADED) for m in whole]
    return [*noise, *whole, *degraded]


def follow(
    model: WorldModel, member: Member, seeds: Sequence[int], begun: tuple[np.ndarray, list[str]], steps: int
) -> Followed:
    """Dream from the first frames and instructions of n seeds; MuJoCo, reset with these, takes the dream's actions.

    MuJoCo goes on after a termination, as a dream does that has not noticed: where it is then still counts.
    """
    n = len(seeds)
    worlds = [truth(model.task, "state") for _ in seeds]
    dreams = dreams_from(model, begun[0], "state", begun[1], autoreset_mode="DISABLED")
    for world, seed in zip(worlds, seeds, strict=True):
        world.reset(seed=int(seed))
    actor, slots = Actor(member, model.task, n), np.arange(n)
    for slot, seed in enumerate(seeds):
        actor.begin(slot, int(seed))
    observed, _ = dreams.reset(seed=0, options={"start": list(range(n))})
    assert model.trust is not None  # as main has made sure
    scale, going = model.trust["std"].cpu().numpy(), np.ones(n, bool)
    columns: list[tuple[np.ndarray, ...]] = []
    for step in range(steps):
        actions = actor.act(slots, observed, np.full(n, step))
        observed, _, terminated, _, infos = dreams.step(actions)
        real = np.stack([world.step(action)[0] for world, action in zip(worlds, actions, strict=True)])
        error = np.sqrt(np.square((observed - real) / scale).mean(axis=1))
        columns.append((infos["trust"], np.nan_to_num(error, nan=np.inf), going.copy()))
        going &= ~terminated
    dreams.close()
    return Followed(*(np.stack(column, axis=1) for column in zip(*columns, strict=True)))


def trust_rows(found: Followed, bound: float, behaviour: str) -> list[dict[str, Any]]:
    """AUROC over all steps, within one horizon and at single ones, beside a clock; calibration, of all and at each."""
    good, every = found.error <= bound, np.arange(len(found.error))
    elapsed = np.broadcast_to(np.arange(good.shape[1]), good.shape)
    steps = {"steps": int(found.there.sum())}
    rows: list[dict[str, Any]] = []

    def row(metric: str, statistic: OfSteps, dreams: np.ndarray, scale: Scale, told: np.ndarray, **more: Any) -> None:
        at = slice(None) if "horizon" not in more else slice(more["horizon"] - 1, more["horizon"])
        of = _by_dream(statistic, told[:, at], good[:, at], found.there[:, at])
        value = float(of(dreams[None].astype(float))[0])
        if np.isnan(value):  # every step is good, or every step bad: no AUROC
            return
        try:
            told_of = jackknife(of, dreams.astype(float), runs=dreams.tolist(), scale=scale).as_dict()
        except ValueError:  # right about all, or one dream decides: no interval
            told_of = {"value": value, "n": len(dreams)}
        rows.append({"metric": metric, "behaviour": behaviour, "unit": "1", **more, **told_of})

    row("AUROC", _pooled(auroc), every, SHARE, found.trust, **steps)
    row("AUROC of elapsed steps alone", _pooled(auroc), every, SHARE, -elapsed, **steps)
    row("AUROC within one horizon", within_horizon, every, SHARE, found.trust, **steps)
    row("Brier skill over a clock", brier_skill, every, PLAIN, found.trust, **steps)
    row("share of good steps", _pooled(lambda p, y: y.mean()), every, PLAIN, found.trust, **steps)
    row("mean trust", _pooled(lambda p, y: p.mean()), every, PLAIN, found.trust, **steps)
    row("expected calibration error", _pooled(calibration_error), every, PLAIN, found.trust, **steps)
    for h in (h for h in HORIZONS if h <= good.shape[1]):
        alive = np.flatnonzero(found.there[:, h - 1])
        if len(alive) > BINS:
            place = {"horizon": h, "good": float(good[alive, h - 1].mean())}
            row("AUROC at one horizon", _pooled(auroc), alive, SHARE, found.trust, **place)
            row("trust above the share of good steps", excess, alive, PLAIN, found.trust, **place)
    return rows


def cost_row(model: WorldModel) -> dict[str, Any]:
    """How much longer a step of ``COST_BATCH`` dreams takes with trust than without: ratios of neighbouring rounds."""
    with_and_without = [
        gym.make_vec(
            "Procosm/World-v0", num_envs=COST_BATCH, checkpoint=each, observation="state", mixed=has_bfloat16()
        )
        for each in (model, dataclasses.replace(model, trust=None))
    ]
    for env in with_and_without:
        env.reset(seed=0)
        env.action_space.seed(0)
    actions = with_and_without[0].action_space.sample()
    ratios = []
    for _ in range(COST_ROUNDS):
        seconds = []
        for env in with_and_without:
            env.step(actions)  # the other's step has just emptied the caches
            began = time.perf_counter()
            for _ in range(COST_STEPS):
                env.step(actions)
            seconds.append(time.perf_counter() - began)
        ratios.append(seconds[0] / seconds[1])
    return {"metric": "time of a step with trust over without", "behaviour": "constant action", "unit": "ratio"} | {
        "value": statistics.median(ratios),
        "low": min(ratios),
        "high": max(ratios),
        "n": COST_ROUNDS,
        "batch": COST_BATCH,
        "threads": torch.get_num_threads(),
    }


def calibration_error(trust: np.ndarray, good: np.ndarray) -> float:
    """Mean |trust − share of good steps| over ten bins of trust, weighted by their steps (Naeini et al. 2015)."""
    which = np.minimum((trust * BINS).astype(int), BINS - 1)
    apart = np.bincount(which, trust - good, BINS)
    return float(np.abs(apart).sum() / len(trust))


def _pooled(statistic: Callable[[np.ndarray, np.ndarray], Any]) -> OfSteps:
    """The statistic of all steps that there are, whichever their horizon."""
    return lambda told, good, there: statistic(told[there], good[there])


def _by_dream(statistic: OfSteps, told: np.ndarray, good: np.ndarray, there: np.ndarray) -> Statistic:
    """The statistic of (r, n) drawn dreams: a dream is drawn whole."""

    def of(drawn: np.ndarray) -> np.ndarray:
        picked = drawn.astype(int)
        return np.array([statistic(told[row], good[row], there[row]) for row in picked])

    return of


if __name__ == "__main__":
    command.main(main, TrustConfig)
