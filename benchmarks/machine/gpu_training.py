"""A world model trained on a GPU, dense and sparse: held-out error over the seconds that training has taken.

    python -m procosm.benchmarks.machine.gpu_training --data runs/reacher/data --out runs/gpu  # minutes

Both arms have the same data, batches, steps and tokenizer; the dense and the sparse dynamics have the same shape. The
error is measured every so many steps of the denoising stage, on held-out windows, and its own time is not counted. Then
the unrolled stage, the growth test and a checkpoint for each arm (OUT/dense, OUT/sparse), so that policies that
practise in it can be judged in MuJoCo.
"""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.benchmarks.sparse.kernels import machine
from procosm.world_model import checkpoint, command, registry
from procosm.world_model.data.batch import Batch
from procosm.world_model.data.episodes import load_task
from procosm.world_model.data.task import Task
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.precision import describe, resolve_device
from procosm.world_model.provenance import provenance
from procosm.world_model.settings import Count, Positive, Seed, Share
from procosm.world_model.sparsity import sparsify, weights
from procosm.world_model.training.assembled import assembled
from procosm.world_model.training.presets import Preset, preset
from procosm.world_model.training.recipes import Training
from procosm.world_model.training.train import TrainConfig, read_tables, sparsifiers
from procosm.world_model.training.validation import open_loop


@dataclass(frozen=True)
class GpuTrainingConfig(OnDevice):
    """What to train."""

    data: Path
    """Folder of a dataset made by `procosm collect`."""
    out: Path
    """Folder of the two checkpoints; what the arms share is trained once and kept there."""
    result: Path = RESULTS / "gpu_training.json"
    """Where the result goes."""
    width: Count = 1024
    """Width of the denoising network; its heads have 64 channels each."""
    layers: Count = 8
    """Its blocks."""
    steps: Count = 2000
    """Steps of the denoising stage."""
    unrolled_steps: Count = 200
    """Steps of the unrolled stage."""
    batch: Count = 512
    """Windows in a batch of the denoising stage; a quarter as many are unrolled."""
    learning_rate: Positive = 5e-4
    """Peak of the denoising stage."""
    density: Share = 0.1
    """Share of the weights of attention and MLPs that the sparse arm keeps."""
    block: Literal[16, 32, 64, 128] = 64
    """Side of its blocks."""
    every: Count = 100
    """Steps between measurements of the held-out error."""
    windows: Count = 512
    """Held-out windows in each."""
    horizon: Count = 8
    """Steps of the held-out dreams."""
    seed: Seed = 0
    """Of weights, batches and noise."""
    quick: bool = False
    """A miniature, in seconds."""


SHARED = ("tokenizer", "state_head", "manifold")
"""Stages of what is learned of single frames, once for both arms."""


class Timed(DiffusionDynamics):
    """Dynamics that call ``watch`` before every step of the denoising stage."""

    watch: Callable[[], None]

    def diffusion_loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """See DiffusionDynamics."""
        self.watch()
        return super().diffusion_loss(batch, generator)


class Clock:
    """Seconds of training, and the held-out error at some of them."""

    def __init__(self, config: GpuTrainingConfig, training: Training) -> None:
        self.config, self.training = config, training
        self.seconds, self.step, self.found = 0.0, 0, list[dict[str, float]]()
        self._since = self._now()

    def __call__(self) -> None:
        """Before a step: measure where that is due."""
        if self.step % self.config.every == 0:
            self.measure()
        self.step += 1

    def measure(self) -> None:
        """The held-out error now; the time it takes is not counted."""
        self.seconds += self._now() - self._since
        errors = open_loop(self.training, self.config.horizon, self.config.windows)["dream"]
        point = {"step": self.step, "seconds": self.seconds, "first": errors[0], "last": errors[-1]}
        self.found.append(point)
        print({key: round(value, 5) for key, value in point.items()}, flush=True)
        self._since = self._now()

    def _now(self) -> float:
        device = self.training.table.device
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter()


@dataclass(frozen=True)
class Seen:
    """What both arms share: the data, and what was learned of single frames."""

    task: Task
    training: Training


def sizes_of(config: GpuTrainingConfig) -> Preset:
    """The pipeline's settings: those of a preset, but for the dynamics and its stages."""
    shape = TransformerConfig(
        width=config.width, layers=config.layers, heads=max(1, config.width // 64), adaln_rank=min(256, config.width)
    )
    base = preset("debug" if config.quick else "small")
    diffusion: dict[str, Any] = {"steps": config.steps, "batch": config.batch, "learning_rate": config.learning_rate}
    unroll: dict[str, Any] = {"steps": config.unrolled_steps, "batch": max(1, config.batch // 4), "extensions": 0}
    unroll |= {"learning_rate": config.learning_rate / 4}
    sizes = replace(base, dynamics=DynamicsConfig(transformer=shape))
    return sizes.with_stage("diffusion", **diffusion).with_stage("unroll", **unroll)


def look(config: GpuTrainingConfig, sizes: Preset, device: torch.device) -> Seen:
    """Train what reads frames and latents, once for both arms."""
    task, work = load_task(config.data), config.out / "shared.training"
    torch.manual_seed(config.seed)
    tokenizer, dynamics = registry.untrained(task, sizes.tokenizer, sizes.dynamics)
    tokenizer, dynamics = tokenizer.to(device), dynamics.to(device)
    training = Training(tokenizer, dynamics, read_tables(config.data, dynamics, device), config.seed, work)
    for name in SHARED:
        sizes.stages[name].run(name, training)
    return Seen(task, training)


def arm(config: GpuTrainingConfig, sizes: Preset, seen: Seen, name: str, density: float) -> list[dict[str, Any]]:
    """Train one arm and write its checkpoint; its rows."""
    shared, task = seen.training, seen.task
    device = shared.table.device
    torch.manual_seed(config.seed)
    dynamics = Timed(sizes.dynamics, shared.tokenizer.spec.shape, len(task.action_low), task.state_size)
    # Everything but the network is as it was learned of single frames; the network begins anew.
    learned = {k: v for k, v in shared.dynamics.state_dict().items() if not k.startswith(("net.", "uncertainty."))}
    dynamics.load_state_dict(learned, strict=False)
    if density < 1:
        sparsify(dynamics, density, config.block, dynamics.stay_dense)
    dynamics.to(device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    work = config.out / f"{name}.training"
    shutil.rmtree(work, ignore_errors=True)  # an arm is timed from its first step or not at all
    choose = sparsifiers(TrainConfig(config.data, config.out, seed=config.seed, density=density))
    training = replace(shared, dynamics=dynamics, work=work, sparsifiers=choose, metrics={})
    clock = Clock(config, training)
    dynamics.watch = clock
    for stage in (each for each in sizes.stages if each not in SHARED):
        training.metrics |= sizes.stages[stage].run(stage, training)
    training.metrics["open_loop"] = open_loop(training)
    origin = provenance({"gpu_training": config, "sizes": sizes}) | {"policies": {}, "device": describe(device)}
    checkpoint.save(config.out / name, assembled(task, training, origin))
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    return rows_of(config, name, density, clock, training.metrics, peak) + [
        {"metric": f"weights, {kind}", "value": value, "unit": "1", "arm": name, "task": task.id}
        for kind, value in weights(dynamics).items()
    ]


def rows_of(
    config: GpuTrainingConfig, name: str, density: float, clock: Clock, metrics: dict[str, Any], peak: int | None
) -> list[dict[str, Any]]:
    """The error over seconds, and what the finished arm is like."""
    shared = {"task": load_task(config.data).id, "arm": name, "density": density, "seed": config.seed}
    rows = [
        {"metric": f"held-out latent error at {h}", "value": point[key], "unit": "1", "n": config.windows, **shared}
        | {"seconds": point["seconds"], "step": point["step"]}
        for point in clock.found
        for key, h in (("first", 1), ("last", config.horizon))
    ]
    final = metrics["open_loop"]["dream"]
    rows += [
        {"metric": f"held-out latent error at {h}, finished", "value": final[h - 1], "unit": "1", **shared}
        for h in (1, config.horizon)
    ]
    rows.append({"metric": "growth error", "value": metrics["growth"].get("growth_error"), "unit": "1", **shared})
    if len(clock.found) > 2:  # the first stretch loads kernels
        (first, *_, last) = clock.found[1:]
        speed = (last["step"] - first["step"]) / (last["seconds"] - first["seconds"])
        rows.append({"metric": "training steps_per_s", "value": speed, "unit": "steps/s", **shared})
    if peak is not None:
        rows.append({"metric": "peak memory", "value": peak, "unit": "bytes", **shared})
    return rows


def benchmark(config: GpuTrainingConfig) -> Path:
    """Train both arms and write the result."""
    if config.quick:
        config = replace(config, width=64, layers=1, steps=8, unrolled_steps=2, batch=8, block=16, density=0.25)
        config = replace(config, every=3, windows=4, horizon=2)
    device = resolve_device(config.device)
    sizes = sizes_of(config)
    seen = look(config, sizes, device)
    rows = arm(config, sizes, seen, "dense", 1.0) + arm(config, sizes, seen, "sparse", config.density)
    details = {"machine": machine(device.type), "quick": config.quick, "products": "bfloat16 where it is faster"}
    return record(config.result.stem, rows, config.result.parent, details)


if __name__ == "__main__":
    command.main(benchmark, GpuTrainingConfig)
