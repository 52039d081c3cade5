"""Physics alignment in one command: films, a world model of them, its dreams beside the truth.

    python -m procosm.benchmarks.physics --quick      # two minutes
    python -m procosm.benchmarks.physics --publish

Killed at any moment, the same command goes on.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from procosm.benchmarks.physics.training import Lesson, world_model


@dataclass(frozen=True)
class PhysicsConfig:
    """How much is filmed, and how closely it is judged."""

    out: Path = Path("runs/physics")
    """Folder of films, world model and scores (--quick: its subfolder quick)."""
    films: int = 24
    """Training films of each scenario, each seen by four cameras."""
    seed: int = 0
    """Of films, weights and intervals."""
    quick: bool = False
    """Two films and a world model of the debug size: shows that everything works, and nothing else."""


def physics(config: PhysicsConfig) -> Path:
    """Film, train and judge, or go on with it."""
    out = config.out / "quick" if config.quick else config.out
    return world_model(Lesson(2 if config.quick else config.films, config.seed, config.quick), out)


if __name__ == "__main__":
    print(physics(tyro.cli(PhysicsConfig)))
