"""Planning in the dream beside planning in MuJoCo itself, shooting at random, the trained policy and doing nothing.

    python -m procosm.benchmarks.dream.planning --task Reacher

All planners have equal budgets: the same horizon, candidates and iterations. The oracle's candidates are tried in
MuJoCo, from the state that it is in, so that what it earns more than the planner in the dream is what the dream gets
wrong.
Every arm plays the same MuJoCo episodes; planners in the dream and the policy see pixels alone.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from procosm.agents.judge.intervals import estimate
from procosm.agents.judge.rollouts import eyes_of
from procosm.agents.policy.plan.episodes import Planned
from procosm.agents.policy.plan.planner import PlanConfig, Planner
from procosm.agents.policy.plan.search import icem, shifted
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, in_files, record
from procosm.envs.collect.policy_file import load_policy
from procosm.envs.collect.run_policy import observation_of
from procosm.envs.dreams.weights import find_checkpoint
from procosm.envs.play.policy import find_policy
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.settings import Count

FIRST_SEED = 9_300_000
"""Seed of the first episode: none of collecting, training or judging is near it."""
Act = Callable[[list[MujocoEnv], np.ndarray, np.ndarray | None], np.ndarray]
"""Environments that go on, what is shown of them, and which of those before they are, (m,) bool, None where they have
just begun, to (n, a) actions."""


@dataclass(frozen=True)
class PlanningConfig(OnDevice):
    """Compare planners of equal budgets."""

    task: str = "Reacher"
    """A world model that ships."""
    episodes: Count = 6
    """MuJoCo episodes of each arm."""
    steps: Count = 50
    """Of an episode, at most."""
    horizon: Count = 10
    """Steps of a plan."""
    candidates: Count = 48
    """Plans in an iteration."""
    iterations: Count = 3
    """Of a search."""
    out: Path = RESULTS
    """Folder of the result."""


def planning(config: PlanningConfig) -> Path:
    """Play every arm and write ``planning_<task>.json``."""
    folder = find_checkpoint(None, config.task)
    model = load(folder, config.resolved())
    rows = []
    for name, (observation, act) in arms(config, model, folder).items():
        began = time.process_time()
        returns, decisions = played(config, model, observation, act)
        found = estimate(returns)
        interval = {"low": found.low, "high": found.high, "n": found.n, "seed": FIRST_SEED}
        common = {"task": model.task.id, "arm": name}
        rows.append({"metric": "return", "value": found.mean, "unit": "reward", **interval, **common})
        seconds = (time.process_time() - began) / decisions
        rows.append({"metric": "CPU seconds for each decision", "value": seconds, "unit": "s", **common})
    budget = {name: getattr(config, name) for name in ("episodes", "steps", "horizon", "candidates", "iterations")}
    details = {"budget": budget, "interval": "95 %, Student's t over episodes"}
    return record(f"planning_{in_files(model.task.id)}", rows, config.out, details)


def arms(config: PlanningConfig, model: WorldModel, folder: Path) -> dict[str, tuple[str, Act]]:
    """What each arm sees, and what it does about it."""
    budget: dict[str, Any] = {name: getattr(config, name) for name in ("horizon", "candidates", "iterations")}
    settings = {"elites": max(2, config.candidates // 6), **budget}
    size = len(model.task.action_low)
    found: dict[str, tuple[str, Act]] = {
        "iCEM in the dream": ("latent", in_the_dream(Planner(model, PlanConfig(**settings)))),
        "shooting in the dream": ("latent", in_the_dream(Planner(model, PlanConfig(method="random", **budget)))),
        "iCEM in MuJoCo": ("latent", Oracle(PlanConfig(**settings), Planner(model, PlanConfig(**settings)))),
        "zero action": ("latent", lambda envs, seen, on: np.zeros((len(envs), size), np.float32)),
    }
    if (path := find_policy(folder)) is not None:
        policy = load_policy(path)
        kind = observation_of(policy.observation_space.shape, model)
        found["trained policy"] = (kind, lambda envs, seen, on: policy.predict(seen, deterministic=True)[0])
    return found


def in_the_dream(planner: Planner) -> Act:
    """A planner that keeps its plans from step to step."""
    planned = Planned(planner)
    slots = np.empty(0, np.int64)

    def act(envs: list[MujocoEnv], seen: np.ndarray, on: np.ndarray | None) -> np.ndarray:
        nonlocal slots
        slots = np.arange(len(envs)) if on is None else slots[on]
        return planned(seen, slots)

    return act


class Oracle:
    """iCEM whose candidates are tried in MuJoCo, each from the physics state that the episode is in."""

    def __init__(self, config: PlanConfig, planner: Planner) -> None:
        self._config, self._bounds = config, planner.bounds
        self._rng, self._plan, self._kept = np.random.default_rng(config.seed), np.empty(0), np.empty(0)

    def __call__(self, envs: list[MujocoEnv], seen: np.ndarray, on: np.ndarray | None) -> np.ndarray:
        """The first actions of the best plans."""
        config = self._config
        begin = np.zeros((len(envs), config.horizon, len(self._bounds.low)), np.float32)
        found = icem(
            lambda tried: returns_in(envs, tried, config.gamma), begin if on is None else self._plan[on],
            self._bounds, self._rng, candidates=config.candidates, iterations=config.iterations,
            elites=config.elites, std=config.std, beta=config.beta, kept=None if on is None else self._kept[on],
        )  # fmt: skip
        self._plan, self._kept = shifted(found.best), shifted(found.elites)
        return found.best[:, 0]


def returns_in(envs: list[MujocoEnv], tried: np.ndarray, gamma: float) -> np.ndarray:
    """(n, k) discounted returns of (n, k, h, a) actions in MuJoCo; the environments are left as they were."""
    totals = np.zeros(tried.shape[:2])
    for n, env in enumerate(envs):
        physics = env.physics()
        for k, plan in enumerate(tried[n]):
            env.set_physics(physics)
            for t, action in enumerate(plan):
                _, reward, terminated, _ = env.simulator.step(action)
                totals[n, k] += gamma**t * reward
                if terminated:
                    break
        env.set_physics(physics)
    return totals


def played(config: PlanningConfig, model: WorldModel, observation: str, act: Act) -> tuple[np.ndarray, int]:
    """Returns of (episodes,) MuJoCo episodes, and how many decisions were taken."""
    envs = [MujocoEnv.from_task(model.task) for _ in range(config.episodes)]
    eyes = eyes_of(observation, model, len(envs))
    shown = [env.reset(seed=FIRST_SEED + i)[0] for i, env in enumerate(envs)]
    totals, going, decisions = np.zeros(len(envs)), np.arange(len(envs)), 0
    on: np.ndarray | None = None
    for _ in range(config.steps):
        if not len(going):
            break
        frames = np.stack([model.task.join(shown[i]) for i in going])
        seen: Any = eyes.see(going, frames, first=on is None)
        actions = act([envs[i] for i in going], seen, on)
        decisions += len(going)
        on = np.ones(len(going), bool)
        for place, (i, action) in enumerate(zip(going.tolist(), actions, strict=True)):
            shown[i], reward, terminated, truncated, _ = envs[i].step(action)
            totals[i] += reward
            on[place] = not (terminated or truncated)
        going = going[on]
    for env in envs:
        env.close()
    return totals, decisions


if __name__ == "__main__":
    command.main(planning, PlanningConfig)
