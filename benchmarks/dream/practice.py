"""What a second of practice is worth: PPO, SAC and SHAC in the dreams of one world model, judged as they go.

    python -m procosm.benchmarks.dream.practice --world-model RUN/world_model --out runs/bench/practice

Every learner practises by its own recipe; now and then its clock stands still and its policy plays MuJoCo episodes, the
same for all. They guide nothing. ``--publish`` keeps the result and its figure.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from annotated_types import Interval

from procosm.agents.judge.intervals import estimate
from procosm.agents.judge.rollouts import Player, play_truth
from procosm.agents.policy.learners import new_learner
from procosm.agents.policy.train import PolicyConfig, practise, with_observation
from procosm.agents.policy.worlds import dreams
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import publish, record
from procosm.envs.collect.policy_file import save_learner
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.precision import bfloat16_pays
from procosm.world_model.progress import Progress
from procosm.world_model.settings import Count, Seed
from procosm.world_model.threads import one_thread

FIRST_SEED = 9_400_000
"""Seed of the first episode: none of collecting, training or judging is near it."""
SETTINGS: dict[str, dict[str, Any]] = {
    "ppo": {"dreams": 384, "iterations": 48},
    "sac": {"dreams": 64, "iterations": 100},
    "shac": {"dreams": 64, "iterations": 128},
}
"""Of each learner, beside the defaults of ``procosm train-policy``."""
COLOURS = {"ppo": "#0072b2", "sac": "#009e73", "shac": "#d55e00"}


@dataclass(frozen=True)
class PracticeConfig(OnDevice):
    """Compare learners by the seconds that they take."""

    world_model: Path
    """Checkpoint folder to practise in."""
    out: Path
    """Folder for policies and the result."""
    looks: Count = 8
    """At MuJoCo, evenly spread over a training."""
    episodes: Count = 20
    """MuJoCo episodes of a look."""
    gamma: Annotated[float, Interval(gt=0, lt=1)] = 0.99
    """Discount of each step."""
    seed: Seed = 0
    """Of the first training."""
    seeds: Count = 3
    """Trainings of each learner."""
    publish: bool = False
    """Copy the result and its figure to benchmarks/results."""


def practice(config: PracticeConfig) -> Path:
    """Train and judge, and write ``practice.json`` and its figure."""
    model = load(config.world_model, device=config.resolved())
    model.dynamics.mixed = bfloat16_pays(model.starts.device)
    rows: list[dict[str, Any]] = []
    for algorithm in SETTINGS:
        for seed in range(config.seed, config.seed + config.seeds):
            rows += practised(config, model, algorithm, seed)
    details = {
        "settings": SETTINGS,
        "interval": "95 %, over episodes",
        "seconds": "of the processor, looks left out",
        "world_model": model.provenance.get("commit", ""),
    }
    result = record("practice", rows, config.out, details)
    draw(rows, result.with_suffix(".png"))
    if config.publish:
        publish(result)
    return result


@one_thread()  # as `procosm train-policy` has it
def practised(config: PracticeConfig, model: WorldModel, algorithm: str, seed: int) -> list[dict[str, Any]]:
    """A row for each look at one training."""
    wanted = {"algorithm": algorithm, "seed": seed, "gamma": config.gamma, **SETTINGS[algorithm]}
    settings = with_observation(PolicyConfig(config.world_model, config.out, **wanted), model)
    env = dreams(model, settings.dreams, settings.observation, settings.horizon, settings.gamma)
    learner, spent, rows = new_learner(settings, env, model), 0.0, list[dict[str, Any]]()
    looks = set(np.linspace(0, settings.rounds, config.looks + 1).round().astype(int)[1:] - 1)
    with Progress(settings.rounds, f"{algorithm}, seed {seed}", "round") as bar:
        for index in range(settings.rounds):
            began = time.process_time()
            practise(learner, settings, index, None)
            spent += time.process_time() - began
            bar.update(1)
            if index not in looks:
                continue
            path = config.out / f"{algorithm}_{seed}_{len(rows)}.zip"
            save_learner(learner, path)
            player = Player(
                config.world_model, "trained", path, algorithm, settings.observation, str(config.resolved())
            )
            played = play_truth(player, range(FIRST_SEED, FIRST_SEED + config.episodes), 1)
            found = estimate(np.array([episode.total for episode in played]))
            rows.append(
                {"metric": "return", "task": model.task.id, "value": found.mean, "unit": "reward", "seed": seed}
                | {"low": found.low, "high": found.high, "n": found.n, "algorithm": algorithm}
                | {"seconds": spent, "imagined_steps": learner.num_timesteps}
            )
            bar.show({"return in MuJoCo": found.mean}, digits=1)
    env.close()
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """Return over processor seconds, a line for each training."""
    figure, axis = plt.subplots(figsize=(6.4, 4))
    for algorithm, colour in COLOURS.items():
        label: str | None = algorithm.upper()
        for seed in sorted({row["seed"] for row in rows}):
            line = [row for row in rows if (row["algorithm"], row["seed"]) == (algorithm, seed)]
            x, y = [row["seconds"] for row in line], [row["value"] for row in line]
            axis.plot(x, y, color=colour, marker=".", label=label)
            axis.fill_between(x, [r["low"] for r in line], [r["high"] for r in line], color=colour, alpha=0.1, lw=0)
            label = None
    axis.set(title=rows[0]["task"], xlabel="processor seconds of practice in the dream", ylabel="mean return in MuJoCo")
    axis.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=140)
    plt.close(figure)


if __name__ == "__main__":
    command.main(practice, PracticeConfig)
