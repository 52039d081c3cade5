"""What sparsity does for a whole training step of a Cosmos-shaped transformer: time by part, bytes of state.

    python -m procosm.benchmarks.sparse.training            # on a CUDA device: d = 2048, 10,240 tokens, as deep as fits
    python -m procosm.benchmarks.sparse.training --quick    # seconds; without a CUDA device the CPU path, and says so

Dense and sparse are the same modules compiled the same way, bfloat16 by autocast on float32 parameters; dense steps
with torch's fused AdamW, sparse with sparse.optim.AdamW. Random data, and a loss that needs every output.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from procosm import sparse
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.benchmarks.sparse.cosmos_shaped import example
from procosm.benchmarks.sparse.kernels import NOT_MEASURED, SEED, machine
from procosm.world_model import command
from procosm.world_model.diffusion.transformer import DiffusionTransformer
from procosm.world_model.settings import Count, Share
from procosm.world_model.training.presets import preset


@dataclass(frozen=True)
class SparseTrainingConfig(OnDevice):
    """The model and how often its step is timed."""

    out: Path = RESULTS / "sparse_training.json"
    """Where the result goes."""
    quick: bool = False
    """A miniature in seconds; on the CPU where there is no CUDA device."""
    width: Count = 2048
    """d of Cosmos-Predict2 2B."""
    heads: Count = 16
    """Attention heads."""
    layers: Count = 28
    """Blocks wanted; fewer are built where memory does not hold the dense model's step."""
    tokens: Count = 10240
    """Tokens of a clip in the paper's first stage: 57 frames of 640 x 512."""
    text_tokens: Count = 512
    """Tokens of the text each block attends to."""
    block: Count = 128
    """Side of the sparse blocks."""
    density: Share = 0.1
    """Share of blocks kept in every linear layer of the blocks."""
    rounds: Count = 5
    """Steps timed after two that are not."""
    compile: bool = True
    """Compile both models with torch.compile."""


Batch = tuple[Tensor, ...]
Built = tuple[nn.Module, Batch]
PARTS = ("forward", "backward", "optimizer")
STAY_DENSE = ("*modulat*", "patch_*", "time_*", "action.*")
"""As sparse training of the world models: embeddings, modulation, first and last layers."""


class PresetStep(nn.Module):
    """The denoising network of a preset on one batch of its third stage, with an error against noise as loss."""

    latent_shape, context, action_size = (4, 8, 8), 3, 6

    def __init__(self, name: str) -> None:
        super().__init__()
        self.net = DiffusionTransformer(
            preset(name).dynamics.transformer, self.latent_shape, self.context, self.action_size
        )

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, float]]:
        """batch: target, then the network's inputs."""
        target, *inputs = batch
        return (self.net(*inputs) - target).float().square().mean(), {}


def preset_example(name: str, clips: int, device: str) -> Built:
    """A preset's network and ``clips`` random latents."""
    with torch.device(device):
        model = PresetStep(name)
        x = torch.randn(clips, 2 + model.context, *model.latent_shape)
        return model, (x[:, :1], x[:, 1:2], torch.randn(clips), x[:, 2:], torch.rand(clips, model.action_size) * 2 - 1)


class Step:
    """One model's training step, timed by part."""

    def __init__(self, built: Built, density: float, block: int, compiled: bool, device: str) -> None:
        model, self.batch = built
        self.model, self.device = model, device
        if density < 1:
            sparse.convert(model, density, block, [f"*{pattern}" for pattern in STAY_DENSE])
            self.optimizer: torch.optim.Optimizer = sparse.optim.AdamW(model, 1e-4)
        else:
            self.optimizer = torch.optim.AdamW(model.parameters(), 1e-4, fused=True)
        self.run = torch.compile(model) if compiled else model

    def parts(self) -> dict[str, float]:
        """Seconds of forward, backward and optimizer step of one training step."""
        marks = [self._mark()]
        with torch.autocast(self.device, torch.bfloat16):
            loss, _ = self.run(self.batch)
        marks.append(self._mark())
        loss.backward()
        marks.append(self._mark())
        self.optimizer.step()
        self.optimizer.zero_grad()
        marks.append(self._mark())
        if self.device == "cuda":
            torch.cuda.synchronize()
            times = [start.elapsed_time(end) * 1e-3 for start, end in pairwise(marks)]
        else:
            times = [end - start for start, end in pairwise(marks)]
        return dict(zip(PARTS, times, strict=True))

    def _mark(self) -> Any:
        if self.device == "cpu":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event


def fitting(config: SparseTrainingConfig, device: str) -> tuple[int, Step]:
    """The dense step with as many layers as memory holds, and how many they are."""
    layers = config.layers
    while True:
        try:
            built = example(config.width, config.heads, layers, config.tokens, config.text_tokens, device)
            step = Step(built, 1.0, config.block, config.compile, device)
            step.parts()
            return layers, step
        except torch.OutOfMemoryError:
            if layers == 1:
                raise
            built = step = None  # type: ignore[assignment]
            torch.cuda.empty_cache()
            layers = max(1, layers * 3 // 4)


def timed(step: Step, rounds: int) -> tuple[dict[str, list[float]], int]:
    """Seconds of each part and of the whole, a list entry a step after two untimed ones; and peak bytes on a GPU."""
    if step.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    step.parts(), step.parts()
    taken = [step.parts() for _ in range(rounds)]
    found = {part: [times[part] for times in taken] for part in PARTS}
    found["step"] = [sum(times.values()) for times in taken]
    return found, torch.cuda.max_memory_allocated() if step.device == "cuda" else 0


def compare(task: str, dense: Step, make_sparse: Callable[[], Step], rounds: int) -> list[dict[str, Any]]:
    """Rows of the dense step, the sparse one, and their ratios; the dense model is gone before the other is built."""
    times, peaks, states = {}, {}, {}
    times["dense"], peaks["dense"] = timed(dense, rounds)
    states["dense"] = sparse.memory_report(dense.model, dense.optimizer).total[0]
    device = dense.device
    dense.__dict__.clear()
    if device == "cuda":
        torch.cuda.empty_cache()
    step = make_sparse()
    times["sparse"], peaks["sparse"] = timed(step, rounds)
    states["sparse"] = sparse.memory_report(step.model, step.optimizer).total[0]
    shared = {"task": task, "path": device, "seed": SEED}
    rows: list[dict[str, Any]] = []
    for kind, parts in times.items():
        for part, values in parts.items():
            spread = {"low": min(values), "high": max(values), "n": len(values)}
            middle = statistics.median(values)
            rows.append({"metric": f"seconds of {part}, {kind}", "value": middle, "unit": "s", **spread, **shared})
        rows.append(
            {"metric": f"weights, gradients and Adam, {kind}", "value": states[kind], "unit": "bytes", **shared}
        )
        if device == "cuda":
            rows.append({"metric": f"peak memory of a step, {kind}", "value": peaks[kind], "unit": "bytes", **shared})
    for part in (*PARTS, "step"):
        ratio = statistics.median(times["dense"][part]) / statistics.median(times["sparse"][part])
        unit = "dense time / sparse time"
        rows.append({"metric": f"speedup of {part}", "value": ratio, "unit": unit, "n": rounds, **shared})
    ratio = states["dense"] / states["sparse"]
    unit = "dense bytes / sparse bytes"
    return [*rows, {"metric": "memory of weights, gradients and Adam", "value": ratio, "unit": unit, **shared}]


def preset_rows(config: SparseTrainingConfig, name: str, clips: int, block: int, device: str) -> list[dict[str, Any]]:
    """Rows of a preset's denoising network at density .25: its layers have few blocks."""

    def built(density: float) -> Step:
        return Step(preset_example(name, clips, device), density, block, config.compile, device)

    return compare(
        f"preset {name} clips={clips} b={block} density=0.25", built(1.0), lambda: built(0.25), config.rounds
    )


def benchmark(config: SparseTrainingConfig) -> Path:
    """Time the Cosmos-shaped model and the presets, and write the result."""
    device = config.resolved().type
    if device == "cpu" and not config.quick:
        raise SystemExit("no CUDA device: run on one, or with --quick to time the CPU path")
    if config.quick:
        config = replace(config, width=256, heads=4, layers=2, tokens=256, text_tokens=32)
        config = replace(config, block=64, rounds=2, compile=False)
    torch.manual_seed(SEED)
    layers, dense = fitting(config, device)
    sizes = (config.width, config.heads, layers, config.tokens, config.text_tokens, device)
    pattern = f"b={config.block} density={config.density:g}"
    task = f"Cosmos-shaped d={config.width} layers={layers} tokens={config.tokens} {pattern}"

    def cosmos() -> Step:
        return Step(example(*sizes), config.density, config.block, config.compile, device)

    rows = compare(task, dense, cosmos, config.rounds)
    for name, block in (("small", 32), ("base", 64)):
        clips = 8 if config.quick else preset(name).stages["diffusion"].batch
        rows += preset_rows(config, name, clips, block, device)
    if device == "cpu":
        absent = {"value": None, "unit": "dense time / sparse time", "status": NOT_MEASURED}
        rows.append({"metric": "speedup of step", "task": "H200 Cosmos-shaped d=2048 density=0.1", **absent})
    details = {"machine": machine(device), "quick": config.quick, "compiled": config.compile}
    return record(config.out.stem, rows, config.out.parent, details)


if __name__ == "__main__":
    command.main(benchmark, SparseTrainingConfig)
