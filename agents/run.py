"""The whole road, from a MuJoCo task to a page about a policy that learned in its dream, in one command."""

import sys
from dataclasses import dataclass
from pathlib import Path

from procosm.agents.policy.improve.improve import ImproveConfig, improve
from procosm.agents.policy.train import FILES as POLICY_FILES
from procosm.agents.road import (
    RunConfig,
    Stages,
    collect_stage,
    evaluate_stage,
    policy_stage,
    report_stage,
    train_stage,
)
from procosm.envs.truth.names import allow_import
from procosm.world_model import checkpoint
from procosm.world_model.data.episodes import load_task
from procosm.world_model.folders import check_out
from procosm.world_model.settings import Device, Seed, Settings


@dataclass(frozen=True)
class DemoConfig(Settings):
    """The demonstration: InvertedPendulum from 64 x 64 pixels."""

    out: Path = Path("runs/demo")
    """Run folder; the same command goes on with what is there."""
    seed: Seed = 0
    """Of every stage."""
    device: Device = "auto"
    """Where everything but MuJoCo is computed: auto (CUDA where there is a device), cpu, cuda, or cuda:i."""


def demo(config: DemoConfig) -> Path:
    """The whole road for InvertedPendulum; returns the report."""
    return run(RunConfig(env="InvertedPendulum", out=config.out, seed=config.seed, device=config.device))


def run(config: RunConfig) -> Path:
    """Collect, train a world model, train a policy in it, judge it in MuJoCo, report.

    Killed at any moment, the same command goes on. A stage that was begun with other settings is an error that names
    them; nothing is deleted.

    Returns:
        the report.

    Raises:
        ProcosmError: whatever a stage refuses.
    """
    if config.rounds > 1:
        return improve(ImproveConfig(**vars(config)))
    stages = Stages.of(config)
    allow_import(config.env)  # later stages open the task by the name that the checkpoint has of it
    check_out(config.out)
    checkpoint.check_out(stages.train.out)
    check_out(stages.policy.out, POLICY_FILES.__contains__)
    _announce(1, "collect", f"{config.steps} steps of {config.env} in MuJoCo")
    collect_stage(stages.collect)
    _announce(2, "train", f"a world model ({config.family}, {config.preset}) from these frames")
    train_stage(stages.train)
    if "reward" in load_task(stages.train.data).signals:
        _announce(3, "train-policy", f"{config.algorithm.upper()} in {config.dreams} dreams at once")
        policy_stage(stages.policy)
    else:
        _announce(3, "train-policy", "left out, for no rewards were logged")
    played = f"{config.episodes} MuJoCo episodes, and " if stages.policy.out.exists() else ""
    _announce(4, "evaluate", f"{played}how true the dream is")
    evaluate_stage(stages.evaluate)
    _announce(5, "report", str(config.out / "report.html"))
    return report_stage(stages.report)


def _announce(number: int, name: str, what: str) -> None:
    print(f"[{number}/5] {name}: {what}", file=sys.stderr, flush=True)
