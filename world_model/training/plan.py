"""What a training will take, before it begins: parameters, operations, memory by part, days (``--dry-run``).

Memory is not estimated: the loss of the preset is computed once, with its gradient, on tensors without memory, and what
would be alive at once is added up. Operations are counted by formula (``cost`` of each family). How many of them this
machine takes in a second is timed on a training step, unless it is given.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from procosm.world_model import registry
from procosm.world_model.data.batch import Batch, random_batch
from procosm.world_model.data.task import Task
from procosm.world_model.precision import place
from procosm.world_model.settings import SettingsError
from procosm.world_model.training.gradients import recomputed
from procosm.world_model.training.live import backward_bytes, without_memory
from procosm.world_model.training.parallel import Parallel
from procosm.world_model.training.presets import Family, Preset, preset
from procosm.world_model.training.recipes import Stage

TIMED_WINDOWS, TIMED_FLOPS = 4, 3e11
"""Windows of the step that is timed; where it would take more operations than these, the preset ``small`` is timed."""
BACKWARD = 2
"""A backward pass takes twice the operations of the forward pass: each product has two gradients."""


@dataclass(frozen=True)
class Stretch:
    """A stage that trains the dynamics' network.

    Attributes:
        batch: windows of a step. windows: of these, on one device at once. window_flops: of all passes.
        activation_bytes: of one device, at most, gradients of weights left out.
    """

    name: str
    steps: int
    batch: int
    windows: int
    window_flops: int
    activation_bytes: int

    @property
    def flops(self) -> float:
        """Of the whole stage."""
        return float(self.steps) * self.batch * self.window_flops


@dataclass(frozen=True)
class Plan:
    """What a training will take.

    Attributes:
        parameters: of the tokenizer and of each part of the dynamics, by name.
        frame_flops: FLOPs of one frame of a dream.
        stretches: stages of the dynamics' network.
        memory_bytes: of one device, by part; ``activations`` are those of the stage that has most.
        devices: how many train together.
        device_flops: FLOPs in a second of one device. timed: what they were measured with; None where they were given.
    """

    parameters: dict[str, int]
    frame_flops: int
    stretches: tuple[Stretch, ...]
    memory_bytes: dict[str, int]
    devices: int
    device_flops: float
    timed: str | None

    @property
    def days(self) -> float:
        """Of the stages of the network, on all devices, nothing lost between them."""
        return sum(each.flops for each in self.stretches) / (self.device_flops * self.devices) / 86400


def plan(
    task: Task,
    sizes: Preset,
    how: Parallel,
    device: torch.device,
    devices: int = 1,
    device_flops: float | None = None,
    family: Family = "diffusion",
) -> Plan:
    """What training ``sizes`` on a task's episodes will take, each of ``devices`` devices as ``device``.

    Raises:
        SettingsError: a batch that cannot be shared out among so many devices.
    """
    with without_memory():
        tokenizer, dynamics = registry.untrained(task, sizes.tokenizer, sizes.dynamics)
        for module in (tokenizer, dynamics):
            place(module, device)
        parameters = {"tokenizer": _count(tokenizer)} | {
            f"dynamics: {name}": _count(part) for name, part in dynamics.named_children()
        }
        stages = {name: stage for name, stage in sizes.stages.items() if stage.window_flops(dynamics)}
        stretches = tuple(
            _stretch(name, stage, partial(made_up, task, stage, tokenizer, dynamics), dynamics, how, devices)
            for name, stage in stages.items()
        )
        memory = _memory(tokenizer, dynamics, how, devices)
        memory["activations"] = max(each.activation_bytes for each in stretches)
    timed = None
    if device_flops is None:
        device_flops, timed = measured_flops(task, sizes, family, device)
    return Plan(parameters, dynamics.frame_flops(), stretches, memory, devices, device_flops, timed)


def chosen(sizes: Preset) -> Stage:
    """The stage that trains the dynamics' network first."""
    return next(stage for stage in sizes.stages.values() if stage.chooses == "dynamics")


def made_up(task: Task, stage: Stage, tokenizer: Any, dynamics: Any, windows: int) -> Batch:
    """A batch of a stage of the dynamics, of the shapes that a task's episodes have."""
    sizes = {"state": task.state_size, "reward": 1}
    logged = {name: size for name, size in sizes.items() if name in task.signals}
    shape = tokenizer.spec.shape
    return random_batch(
        windows, dynamics.context, getattr(stage, "horizon", 1), len(task.action_low), logged, latent=shape
    )


def measured_flops(task: Task, sizes: Preset, family: Family, device: torch.device) -> tuple[float, str]:
    """FLOPs in a second that a device takes in a training step, and the step that was timed."""
    name = "this preset"
    with without_memory():
        dynamics = registry.untrained(task, sizes.tokenizer, sizes.dynamics)[1]
        if (1 + BACKWARD) * TIMED_WINDOWS * chosen(sizes).window_flops(dynamics) > TIMED_FLOPS:
            sizes, name = preset("small", dynamics=family), "preset small"
    with torch.random.fork_rng(devices=[]):
        tokenizer, dynamics = (part.to(device) for part in registry.untrained(task, sizes.tokenizer, sizes.dynamics))
        stage = chosen(sizes)
        step = stage.rehearse(dynamics, made_up(task, stage, tokenizer, dynamics, TIMED_WINDOWS))
        step()  # memory is allocated
        seconds = min(_seconds(step, device) for _ in range(3))
    flops = (1 + BACKWARD) * TIMED_WINDOWS * stage.window_flops(dynamics)
    return flops / seconds, f"a step of {TIMED_WINDOWS} windows of {name}"


def _seconds(step: Callable[[], None], device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    step()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - began


def _stretch(
    name: str, stage: Stage, batch_of: Callable[[int], Batch], dynamics: Any, how: Parallel, devices: int
) -> Stretch:
    """What a stage takes, within ``without_memory``."""
    parts = devices * how.accumulate
    if stage.batch % parts:
        raise SettingsError(
            f"a batch of {stage.batch} ({name}) cannot be taken in {parts} equal parts: --devices {devices}, "
            f"--accumulate {how.accumulate}"
        )
    windows = stage.batch // parts
    batch = batch_of(windows)
    trained, loss = stage.rehearsal(dynamics, batch)
    with recomputed(dynamics) if how.recompute else nullcontext():
        live = backward_bytes(trained, loss, _tensors(batch))
    flops = (1 + BACKWARD + how.recompute) * stage.window_flops(dynamics)
    return Stretch(name, stage.steps, stage.batch, windows, flops, live.activations)


def _memory(tokenizer: Any, dynamics: Any, how: Parallel, devices: int) -> dict[str, int]:
    """Bytes of one device by part, but for activations; of dynamics whose stages have said what they train."""
    learned = sum(p.nbytes for p in dynamics.parameters() if p.requires_grad)
    shards = devices if how.kind == "fsdp" else 1
    kept = 3 if how.ema else 2  # Adam's two moments, and the average of the weights
    return {
        "weights": (_bytes(dynamics) // shards) + _bytes(tokenizer),
        "gradients": learned // shards,
        "optimizer's moments": kept * learned // shards,
    }


def _tensors(batch: Batch) -> list[Tensor]:
    return [each for each in (*vars(batch).values(), *batch.signals.values()) if isinstance(each, Tensor)]


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def _bytes(module: nn.Module) -> int:
    return sum(each.nbytes for each in (*module.parameters(), *module.buffers()))


def described(found: Plan, name: str) -> str:
    """A plan as a table, for people."""
    total = sum(found.parameters.values())
    lines = [f"{name}: {_short(total)} parameters"]
    lines += [f"  {part:<32}{_short(count):>12}" for part, count in found.parameters.items()]
    lines += ["", f"FLOPs of one frame of a dream: {found.frame_flops:.3g}", ""]
    lines += [f"{'stage of the network':<24}{'steps':>10}{'batch':>8}{'FLOPs in all':>16}{'activations':>16}"]
    lines += [
        f"  {each.name:<22}{each.steps:>10,}{each.batch:>8,}{each.flops:>16.3g}{each.activation_bytes / 1e9:>13.2f} GB"
        for each in found.stretches
    ]
    lines += ["", f"memory of one device, {found.stretches[0].windows} windows of {found.stretches[0].name} at once"]
    lines += [f"  {part:<32}{size / 1e9:>9.2f} GB" for part, size in found.memory_bytes.items()]
    lines += [f"  {'in all':<32}{sum(found.memory_bytes.values()) / 1e9:>9.2f} GB", ""]
    source = f"timed here: {found.timed}" if found.timed else "given with --flops"
    lines += [f"{found.device_flops:.3g} FLOP/s of a device ({source})"]
    days, devices = found.days, found.devices
    time_ = f"{days:.1f} days" if days >= 1 else f"{days * 24 * 60:.0f} minutes"
    lines += [f"{time_} on {devices} device{'s' * (devices > 1)}; tokenizer, heads and the growth test not counted"]
    return "\n".join(lines)


def _short(count: int) -> str:
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "k")):
        if count >= size:
            return f"{count / size:.2f} {unit}"
    return str(count)
