"""Gives a checkpoint the first frames of its task's own reset, from MuJoCo: what its dreams begin with by default.

    python -m procosm.envs.truth.resets --world-model RUN/world_model

``procosm train`` takes them from its data, where they are few; the command gives an older checkpoint some, or more.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, add_resets, load
from procosm.world_model.errors import ProcosmError
from procosm.world_model.settings import Count, Seed, Settings


@dataclass(frozen=True)
class ResetsConfig(Settings):
    """Give a checkpoint the first frames of its task's own reset."""

    world_model: Path
    """Checkpoint folder (RUN/world_model)."""
    count: Count = 256
    """Resets."""
    seed: Seed = 0
    """Of the first reset; each takes the next."""


def add(config: ResetsConfig) -> Path:
    """Write ``resets.safetensors`` into a checkpoint folder; returns it.

    Raises:
        CheckpointError: it cannot be read.
        TaskError: MuJoCo cannot show its task here as it was learned.
        ProcosmError: a count or seed that makes no sense.
    """
    if config.count < 1 or config.seed < 0:
        raise ProcosmError(f"--count {config.count} must be at least 1, and --seed {config.seed} at least 0")
    model = load(config.world_model)
    return add_resets(config.world_model, encoded_resets(model, range(config.seed, config.seed + config.count)))


def encoded_resets(model: WorldModel, seeds: range) -> torch.Tensor:
    """(n, c, h, w), latents of the first frame that the twin shows after a reset with each seed."""
    env = MujocoEnv.from_task(model.task)
    frames = np.stack([env.task.join(env.reset(seed=seed)[0]) for seed in seeds])
    env.close()
    return model.encode(frames)


def main() -> None:
    """The command line."""
    command.main(add, ResetsConfig)
    print("Dreams of this checkpoint now begin as its task does.", file=sys.stderr)


if __name__ == "__main__":
    main()
