"""Is a dream right where a policy that is good goes, and where one that exploits it would go?

    python -m procosm.benchmarks.dream.probes --checkpoint envs/checkpoints/InvertedPendulum
    python -m procosm.benchmarks.dream.probes --checkpoint envs/checkpoints/Reacher

Known controllers act in MuJoCo and in the dream from the same starts. On the pendulum the optimal regulator holds the
cart on either side near the ends of the rail; on Reacher nothing is done, or the full torque held. Every row has the
goal that it is to meet and says whether it does.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from procosm.agents.judge.intervals import estimate
from procosm.agents.judge.ranking import reaching, regulator
from procosm.agents.judge.ranking.members import Member
from procosm.agents.judge.ranking.paired import Dream, Truth, World
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, in_files, record
from procosm.envs.dreams.weights import find_checkpoint
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.data.task import Task
from procosm.world_model.errors import TaskError
from procosm.world_model.precision import has_bfloat16
from procosm.world_model.settings import Count

FIRST_SEED = 9_800_000
RAIL_M = 1.0
"""Where the pendulum's rail ends, on both sides: inverted_pendulum.xml of Gymnasium."""
PLACES_M = (-0.8, -0.6, 0.6, 0.8)
REST_RAD_S = 0.1
"""Speed of a joint that nobody would call a motion; both begin within .005 of rest."""


@dataclass(frozen=True)
class ProbesConfig(OnDevice):
    """Probe one world model."""

    checkpoint: Path
    """Checkpoint or run folder of a world model of InvertedPendulum or Reacher."""
    episodes: Count = 10
    """Paired episodes of each controller."""
    steps: Count = 1000
    """Steps of each, at most."""
    out: Path = RESULTS
    """Folder of the result."""


@dataclass(frozen=True)
class Watched:
    """Episodes of one controller in one world.

    Attributes:
        states: (n, T + 1, s), what it observed. rewards: (n, T). there: (n, T), whether the step was taken.
    """

    states: np.ndarray
    rewards: np.ndarray
    there: np.ndarray

    @property
    def lasted(self) -> np.ndarray:
        """(n,) steps of each episode."""
        return self.there.sum(axis=1)


def watch(world: World, member: Member, task: Task, seeds: Sequence[int], steps: int) -> Watched:
    """Episodes side by side until the last one ends, or for so many steps; what an ended one shows is not there."""
    slots, going = np.arange(len(seeds)), np.ones(len(seeds), bool)
    world.begin(slots, np.array(seeds))
    states, rewards, there = [world.observed.copy()], [], []
    for step in range(min(steps, task.max_episode_steps)):
        actions = member.control(world.observed, np.full(len(seeds), step), task)
        earned, terminated, truncated = world.step(slots, actions)
        states.append(world.observed.copy())
        rewards.append(earned)
        there.append(going.copy())
        going &= ~(terminated | truncated)
        if not going.any():
            break
    return Watched(np.stack(states, axis=1), np.stack(rewards, axis=1), np.stack(there, axis=1))


def _row(metric: str, values: np.ndarray, unit: str, goal: tuple[float, float], **more: Any) -> dict[str, Any]:
    """The mean over episodes with its interval; passed where it lies within the goal's bounds."""
    found = estimate(np.asarray(values, np.float64))
    told = {"value": found.mean, "low": found.low, "high": found.high, "n": found.n}
    passed = bool(goal[0] <= found.mean <= goal[1])
    return {"metric": metric, "unit": unit, **more, **told, "goal_low": goal[0], "goal_high": goal[1], "passed": passed}


def pendulum_rows(name: str, place_m: float, real: Watched, dreamed: Watched) -> list[dict[str, Any]]:
    """Does it stand as long, where it is held, on the rail, and is a step that stands worth 1?"""
    where = {"controller": name, "lasted_in_mujoco": float(real.lasted.mean())}
    cart = np.where(dreamed.there, dreamed.states[:, 1:, 0], np.nan)
    wrong = np.abs(cart[:, -1] - place_m) if dreamed.there[:, -1].all() else np.full(len(cart), np.inf)
    standing = dreamed.there & (
        np.arange(dreamed.there.shape[1]) < dreamed.lasted[:, None] - 1
    )  # the last step may fall
    rows = [
        _row("share of MuJoCo's steps that the dream stands", dreamed.lasted / real.lasted, "1", (0.99, 1.01), **where),
        _row("farthest place of the dreamed cart", np.nanmax(np.abs(cart), axis=1), "m", (0.0, RAIL_M), **where),
    ]
    if np.isfinite(wrong).all():
        rows.append(_row("distance of the dreamed cart from where it is held", wrong, "m", (0.0, 0.05), **where))
    if standing.any(axis=1).all():
        paid = np.array([reward[at].mean() for reward, at in zip(dreamed.rewards, standing, strict=True)])
        rows.append(_row("reward per standing step of the dream", paid, "1", (0.999, 1.001), **where))
    return rows


def reacher_rows(name: str, real: Watched, dreamed: Watched) -> list[dict[str, Any]]:
    """Does an arm that is left alone rest, one that is pushed turn as fast, and the target stay?"""
    where = {"controller": name}
    speed, true = (np.abs(each.states[:, :, 6:8]).max(axis=2) for each in (dreamed, real))
    moved = np.linalg.norm(dreamed.states[:, -1, 4:6] - dreamed.states[:, 0, 4:6], axis=1)
    off = np.abs(dreamed.rewards - real.rewards).mean(axis=1)
    rows = [
        _row("drift of the dreamed target over the episode", moved, "m", (0.0, 0.01), **where),
        _row("error of a step's reward", off, "1", (0.0, 0.05), **where),
    ]
    if name == "zero":
        rows.append(_row("fastest joint of a dream at rest", speed.max(axis=1), "rad/s", (0.0, REST_RAD_S), **where))
    else:
        ratio = speed[:, -1] / true[:, -1]
        rows.append(_row("dreamed over true speed at the end", ratio, "ratio", (0.9, 1.1), **where))
    return rows


def probes(config: ProbesConfig) -> Path:
    """Watch both worlds and write ``probes_<task>.json``.

    Raises:
        TaskError: a world model of another task, or one that tells no states.
    """
    model = load(find_checkpoint(config.checkpoint, None), config.device)
    model.task.require("these probes", "state", "reward", "twin")
    if model.task.id not in (regulator.TASK, reaching.TASK):
        raise TaskError(f"probes are made for {regulator.TASK} and {reaching.TASK}, not for {model.task.id}")
    seeds = list(range(FIRST_SEED, FIRST_SEED + config.episodes))
    truth, dream = Truth(model.task, len(seeds)), Dream(model, seeds, len(seeds), has_bfloat16())
    rows = []
    for member, judge in _asked(model):
        real, dreamed = (watch(world, member, model.task, seeds, config.steps) for world in (truth, dream))
        rows += [{"task": model.task.id, **row} for row in judge(real, dreamed)]
    details = {
        "intervals": "95 % over paired episodes",
        "first_seed": FIRST_SEED,
        "world_model": {key: model.provenance.get(key) for key in ("commit", "command", "date")},
    }
    return record(f"probes_{in_files(model.task.id)}", rows, config.out, details)


Judge = Callable[[Watched, Watched], list[dict[str, Any]]]


def _asked(model: WorldModel) -> list[tuple[Member, Judge]]:
    """Who acts, and what is asked of what came of it."""
    if model.task.id == regulator.TASK:
        gains = tuple(regulator.regulator(*regulator.linearised(model.task)).tolist())
        held = [Member(f"holds {x:+}", "regulator", gains=gains, about=(x, 0.0, 0.0, 0.0)) for x in PLACES_M]
        return [(member, partial(pendulum_rows, member.name, member.about[0])) for member in held]
    pushes = [Member(f"full torque {x:+g}", "open-loop", push=(x, 0.0)) for x in (-1.0, 1.0)]
    return [(member, partial(reacher_rows, member.name)) for member in (Member("zero", "control"), *pushes)]


if __name__ == "__main__":
    command.main(probes, ProbesConfig)
