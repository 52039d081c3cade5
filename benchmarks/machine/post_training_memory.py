"""What post-training takes in memory: all weights, or low-rank updates.

    python -m procosm.benchmarks.machine.post_training_memory

One real step of the dynamics of each size on made-up latents. Counted are the bytes of the network's weights, of its
gradients, and of what the optimizer keeps of it; activations are left out. The loss is that of denoising one step
ahead; the action's embedding is trained whole in both.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from procosm.benchmarks.record import RESULTS, record
from procosm.world_model import command
from procosm.world_model.data.batch import random_batch
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.settings import Count, Settings
from procosm.world_model.training.lora import adapt
from procosm.world_model.training.presets import preset
from procosm.world_model.training.stage import Optimizer

LATENT, ACTIONS, STATES = (4, 8, 8), 6, 17
"""HalfCheetah's."""


@dataclass(frozen=True)
class PostTrainingMemoryConfig(Settings):
    """Which sizes, and how low the rank."""

    presets: tuple[str, ...] = ("small", "base", "wide")
    """Sizes of dynamics."""
    rank: Count = 8
    """Of the updates."""
    out: Path = RESULTS / "post_training_memory.json"
    """Where the result goes."""


def bytes_of_a_step(dynamics: DiffusionDynamics, rank: int | None) -> dict[str, int]:
    """Bytes of weights, gradients and optimizer's state of the network after one step; ``rank`` None trains it all."""
    dynamics.reader.requires_grad_(False)
    dynamics.manifold.requires_grad_(False)
    if rank is not None:
        dynamics.net.requires_grad_(False)
        adapt(dynamics, rank, 2.0 * rank, dynamics.stay_dense)
        assert dynamics.net.action is not None  # presets tell actions by the timestep embedding
        dynamics.net.action.requires_grad_(True)
    stage = preset("small").stages["diffusion"]
    optimizer = Optimizer(dynamics, stage)
    signals = {"state": dynamics.reader.size, "reward": 1}
    actions = len(dynamics.action_low)
    batch = random_batch(2, dynamics.context, 1, actions, signals, latent=dynamics.latent_shape)
    dynamics.diffusion_loss(batch, torch.Generator().manual_seed(0))[0].backward()
    optimizer.step(1e-4)
    net = set(dynamics.net.parameters())
    kept = [each for p, state in optimizer.adam.state.items() if p in net for each in state.values()]
    return {
        "weights": sum(p.nbytes for p in net),
        "gradients": sum(p.grad.nbytes for p in net if p.grad is not None),
        "optimizer's state": sum(each.nbytes for each in kept),
    }


def measure(config: PostTrainingMemoryConfig) -> Path:
    """Take a step of each size by each method, and write what it took."""
    rows: list[dict[str, Any]] = []
    for name in config.presets:
        for method, rank in (("full", None), ("lora", config.rank)):
            torch.manual_seed(0)
            found = bytes_of_a_step(DiffusionDynamics(preset(name).dynamics, LATENT, ACTIONS, STATES), rank)
            found["together"] = sum(found.values())
            rows += [
                {
                    "metric": metric,
                    "task": name,
                    "value": value,
                    "unit": "bytes",
                    "method": method,
                    "rank": rank,
                    "n": 1,
                }
                for metric, value in found.items()
            ]
    return record(config.out.stem, rows, config.out.parent)


if __name__ == "__main__":
    command.main(measure, PostTrainingMemoryConfig)
