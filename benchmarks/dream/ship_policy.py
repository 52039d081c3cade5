"""Make the policy that ships with a world model: trained in the shipped dream alone, judged in MuJoCo as it ships.

    python -m procosm.benchmarks.dream.ship_policy --name Reacher

Killed at any moment, the same command goes on.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from procosm.agents.judge.evaluate import JUDGING_SEED
from procosm.agents.judge.intervals import estimate
from procosm.agents.judge.rollouts import Player, play_truth
from procosm.agents.policy.train import PolicyConfig, train_policy, with_observation
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, in_files, record
from procosm.envs.collect.policy_file import save_acting
from procosm.envs.dreams.weights import find_checkpoint
from procosm.envs.play.policy import SHIPPED_POLICIES
from procosm.world_model import command
from procosm.world_model.checkpoint import load
from procosm.world_model.errors import ProcosmError
from procosm.world_model.settings import Count, Processes

MOST_BYTES = 200_000
SETTINGS: dict[str, dict[str, Any]] = {"Reacher": {"algorithm": "sac", "dreams": 64, "iterations": 100, "gamma": 0.95}}
"""What the task's policy is trained with, where it is not the default."""


@dataclass(frozen=True)
class ShipPolicyConfig(OnDevice):
    """Whose policy ships, and how it is judged."""

    name: str
    """Name of the id: InvertedPendulum for Procosm/InvertedPendulum-v0."""
    episodes: Count = 100
    """MuJoCo episodes of the policy, and of each control."""
    processes: Processes = 1
    """Processes that step MuJoCo."""
    runs: Path = Path("runs/ship")
    """Where the training is kept."""
    out: Path = RESULTS
    """Folder of the result file."""


def ship_policy(config: ShipPolicyConfig) -> Path:
    """Write ``envs/play/policies/NAME.zip`` and ``results/policy_NAME.json``; returns the former.

    Raises:
        CheckpointError: no world model of that name ships.
        ProcosmError: the policy came out larger than 200 kB.
    """
    checkpoint = find_checkpoint(None, config.name)
    settings: dict[str, Any] = {"truth_every": 0, "device": config.device, **SETTINGS.get(config.name, {})}
    training = PolicyConfig(checkpoint, config.runs / config.name / "policy", **settings)
    training = with_observation(training, load(checkpoint))
    path = SHIPPED_POLICIES / f"{config.name}.zip"
    save_acting(train_policy(training) / "policy.zip", path)
    if path.stat().st_size > MOST_BYTES:
        raise ProcosmError(f"{path} has {path.stat().st_size} bytes, more than {MOST_BYTES}: train a narrower policy")
    seeds = range(JUDGING_SEED, JUDGING_SEED + config.episodes)
    shipped = Player(checkpoint, "trained", path, training.algorithm, training.observation, config.device)
    rows = []
    for player in (shipped, *(dataclasses.replace(shipped, kind=control) for control in ("zero", "random"))):
        found = estimate(np.array([played.total for played in play_truth(player, seeds, config.processes)]))
        row = {"metric": f"return in MuJoCo, {player.kind}", "task": config.name, "value": found.mean, "unit": "1"}
        rows.append(row | {"n": found.n, "low": found.low, "high": found.high})
        print(f"{player.kind:8} {found.mean:8.1f} [{found.low:.1f}, {found.high:.1f}] over {found.n} episodes")
    record(f"policy_{in_files(config.name)}", rows, config.out, {"policy": str(path.name)})
    return path


if __name__ == "__main__":
    command.main(ship_policy, ShipPolicyConfig)
