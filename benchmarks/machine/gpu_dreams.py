"""How fast are dreams on a GPU? Steps a second by batch and observation, and one stream of a 2B-shaped model.

    python -m procosm.benchmarks.machine.gpu_dreams            # on a CUDA device, some four minutes
    python -m procosm.benchmarks.machine.gpu_dreams --quick    # seconds, on any machine

Products in bfloat16, random actions, resets included, observations copied to NumPy arrays as an agent gets them.
``value`` is the median of ``rounds`` stretches, ``low`` and ``high`` are the extremes. The large model is untrained:
only its shape counts here. What fails, for want of memory say, leaves a row that says so.
"""

import dataclasses
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch

from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.benchmarks.sparse.kernels import machine
from procosm.envs.dreams.weights import find_checkpoint
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
from procosm.world_model import command
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.data.task import MAIN, View
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.precision import resolve_device
from procosm.world_model.registry import untrained
from procosm.world_model.settings import Count, Positive
from procosm.world_model.tokenizer.model import TokenizerConfig

SEED = 0
TWO_BILLION = TransformerConfig(width=2048, layers=28, heads=16, mlp_ratio=4, adaln_rank=256)
"""The shape of Cosmos-Predict2 2B, without its text branch."""


@dataclass(frozen=True)
class GpuDreamsConfig(OnDevice):
    """What to time, and for how long."""

    out: Path = RESULTS / "gpu_dreams.json"
    """Where the result goes."""
    names: tuple[str, ...] = ("InvertedPendulum", "Reacher")
    """World models that ship, or folders of checkpoints."""
    batches: tuple[Count, ...] = (1, 16, 256, 1024, 4096, 16384)
    """Dreams side by side."""
    observations: tuple[str, ...] = ("latent", "state", "pixels")
    """What the dreams show."""
    large_frames: tuple[Count, ...] = (64, 256)
    """Frame sizes at which the 2B-shaped model dreams alone; a latent has an eighth of a frame's side."""
    large_steps: tuple[Count, ...] = (1, 2, 4)
    """Denoising steps of the 2B-shaped model."""
    seconds: Positive = 1.0
    """How long each stretch lasts."""
    rounds: Count = 3
    """Stretches."""
    quick: bool = False
    """A few small settings, in seconds."""


def rates(env: WorldModelVectorEnv, seconds: float, rounds: int) -> list[float]:
    """Environment steps a second in each of some stretches, after a few steps that are not timed."""
    env.reset(seed=SEED)
    env.action_space.seed(SEED)
    actions = [np.asarray(env.action_space.sample()) for _ in range(8)]
    for action in actions:  # memory is allocated, kernels are loaded, the step is recorded as a graph
        env.step(action)
    found = []
    for _ in range(rounds):
        taken, began = 0, time.perf_counter()
        while time.perf_counter() - began < seconds:
            env.step(actions[taken % len(actions)])
            taken += 1
        found.append(taken * env.num_envs / (time.perf_counter() - began))
    return found


def row(config: GpuDreamsConfig, model: WorldModel, task: str, batch: int, **options: Any) -> dict[str, Any]:
    """The speed of a batch of dreams, or why there is none."""
    shared = {"metric": "dream_steps_per_s", "task": task, "batch": batch, "unit": "steps/s", "seed": SEED, **options}
    try:
        env = WorldModelVectorEnv(model, batch, mixed=True, **options)
        found = rates(env, config.seconds, config.rounds)
        env.close()
    except torch.OutOfMemoryError as error:
        return {**shared, "value": None, "status": f"not measured: {str(error).splitlines()[0][:150]}"}
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
    middle = statistics.median(found)
    print(f"{task:44} {options} x{batch}: {middle:,.0f} steps/s", flush=True)
    return {**shared, "value": middle, "low": min(found), "high": max(found), "n": len(found)}


def large(small: WorldModel, transformer: TransformerConfig, frame_size: int, device: torch.device) -> WorldModel:
    """An untrained world model of the task of another one, with latents an eighth as wide as its frames."""
    task, side = dataclasses.replace(small.task, views=(View(MAIN, frame_size, frame_size),)), frame_size // 8
    torch.manual_seed(SEED)
    with torch.device(device):  # two billion numbers are drawn where they are needed
        tokenizer, dynamics = untrained(
            task,
            TokenizerConfig(frame_height=frame_size, frame_width=frame_size, latent_size=side),
            DynamicsConfig(transformer=transformer),
        )
        starts = torch.randn(4, dynamics.context, *tokenizer.spec.shape)
        frames = torch.zeros(4, dynamics.context, frame_size, frame_size, 3, dtype=torch.uint8)
    for module in (tokenizer, dynamics):
        module.requires_grad_(False).eval()
    return dataclasses.replace(
        small, task=task, tokenizer=tokenizer, dynamics=dynamics, starts=starts, start_frames=frames, trust=None,
        start_actions=None,
        start_states=None if small.start_states is None else small.start_states[:4],
    )  # fmt: skip


def rows(config: GpuDreamsConfig, device: torch.device) -> Iterator[dict[str, Any]]:
    """Everything that is timed."""
    shape = replace(TWO_BILLION, width=256, layers=2) if config.quick else TWO_BILLION
    for name in config.names:
        model = load(find_checkpoint(name if Path(name).exists() else None, name), device)
        for batch in config.batches:
            for observation in config.observations:
                yield row(config, model, model.task.id, batch, observation=observation)
    for frame_size in config.large_frames:
        model = large(model, shape, frame_size, device)
        parameters = sum(p.numel() for p in cast(DiffusionDynamics, model.dynamics).net.parameters())
        task = f"2B-shaped, {parameters / 1e9:.2f}e9 weights, {frame_size} px"
        for steps in config.large_steps:
            for observation in ("latent", "pixels"):
                yield row(config, model, task, 1, observation=observation, denoising_steps=steps)


def benchmark(config: GpuDreamsConfig) -> Path:
    """Time everything and write the result."""
    if config.quick:
        config = replace(config, names=config.names[:1], batches=(1, 4), large_frames=(64,), large_steps=(1, 2))
        config = replace(config, seconds=0.1, rounds=2)
    device = resolve_device(config.device)
    details = {"machine": machine(device.type), "quick": config.quick, "products": "bfloat16"}
    return record(config.out.stem, list(rows(config, device)), config.out.parent, details)


if __name__ == "__main__":
    command.main(benchmark, GpuDreamsConfig)
