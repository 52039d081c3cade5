"""One loop for every stage of training: ``loss, metrics = model(batch)``, resumable to the bit.

A stage is a fixed number of steps with a one-cycle learning rate. What a step sees depends on (seed, step) only, so
parameters, optimizer state and the step number are all there is to save, and in sparse training what the sparsifier has
measured since it last changed the pattern.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Ge
from torch import Tensor, nn

from procosm import sparse
from procosm.sparse.sharded import write
from procosm.world_model.errors import ProcosmError
from procosm.world_model.progress import Progress
from procosm.world_model.settings import Count, Positive, Settings
from procosm.world_model.stopping import SAVE_SECONDS, signals_wait
from procosm.world_model.training.gradients import Gradients, Losses
from procosm.world_model.training.pace import Pace
from procosm.world_model.training.parallel import ALONE, Parallel, decide
from procosm.world_model.training.saves import Read, Save, Sparsifier

LOG_EVERY = 20
"""Steps between looks at the metrics and, on a CUDA device, at the loss."""
GO_ON, SAVE, STOP = range(3)
"""What the processes decide together after each step."""

MakeSparsifier = Callable[[nn.Module, torch.optim.Optimizer, int], Sparsifier]
"""From the module, its optimizer and the number of steps of the stage."""


@dataclass(frozen=True)
class StageConfig(Settings):
    """Length and learning rate of one stage."""

    steps: Count
    """Optimizer steps."""
    batch: Count
    """Windows in a batch."""
    learning_rate: Positive
    """Peak learning rate, reached after a tenth of the steps and then decayed to zero along a cosine."""
    weight_decay: Annotated[float, Ge(0)] = 0.01
    """AdamW's weight decay."""


def rate(step: int, config: StageConfig) -> float:
    """Learning rate at a step."""
    warm = max(1, config.steps // 10)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    progress = (step - warm) / max(1, config.steps - warm)
    return config.learning_rate * (1 + math.cos(math.pi * progress)) / 2


class Optimizer:
    """AdamW over a stage's parameters, with its state as named tensors for safetensors.

    Adam moves every weight alike, so a sum of fewer weights moves less: block-sparse values have a learning rate
    greater by 1/sqrt(density), as their first values are. On a CUDA device a dense module has torch's fused step and a
    block-sparse one that of ``sparse.optim``; on the CPU torch's fused step is the fastest for both. All have the same
    state.
    """

    def __init__(self, module: nn.Module, config: StageConfig) -> None:
        self.named = {name: p for name, p in module.named_parameters() if p.requires_grad}
        thin = [layer for layer in module.modules() if isinstance(layer, sparse.nn.BlockWeight)]
        rates = {layer.values: math.sqrt(math.prod(layer.shape) / layer.values.numel()) for layer in thin}
        groups: dict[float, list[nn.Parameter]] = {}
        for p in self.named.values():
            groups.setdefault(rates.get(p, 1.0), []).append(p)
        self.adam = self._adam([{"params": group, "rate": rate} for rate, group in groups.items()], bool(thin), config)

    def _adam(self, groups: list[dict[str, Any]], thin: bool, config: StageConfig) -> torch.optim.Optimizer:
        settings: dict[str, Any] = {"betas": (0.9, 0.99), "weight_decay": config.weight_decay}
        on_gpu = any(p.is_cuda for p in self.named.values())
        in_shards = any(hasattr(p, "full_tensor") for p in self.named.values())
        if thin and on_gpu and not in_shards:  # capturable: steps are counted in a tensor, as torch does
            return sparse.optim.AdamW(groups, config.learning_rate, capturable=True, **settings)
        fused = None if in_shards and not on_gpu else True  # one pass over the weights instead of a dozen
        return torch.optim.AdamW(groups, config.learning_rate, fused=fused, **settings)

    def step(self, learning_rate: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = learning_rate * group["rate"]
        nn.utils.clip_grad_norm_(self.named.values(), 1.0)
        self.adam.step()
        # torch's fused step does not say that it wrote to the weights, and what is prepared from them asks.
        torch.autograd.graph.increment_version(self.named.values())

    @torch.no_grad()
    def average(self, ema: float, step: int) -> None:
        """Keep an average of every weight: ``ema`` of it and the rest of the new weight, less of it at first.

        It is a part of the optimizer's state: where blocks come and go it follows them, and new ones begin at 0.
        """
        share = min(ema, (1 + step) / (10 + step))
        for p, state in self.adam.state.items():
            state.setdefault("average", p.detach().clone()).lerp_(p.detach(), 1 - share)

    @torch.no_grad()
    def take_average(self) -> None:
        """Every weight becomes its average."""
        for p, state in self.adam.state.items():
            p.copy_(state["average"])

    def tensors(self) -> dict[str, Tensor]:
        state = self.adam.state
        return {f"adam.{key}.{name}": v for name, p in self.named.items() for key, v in state[p].items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        for name, p in self.named.items():
            kept = {key: tensors.get(f"adam.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            state = {key: tensor for key, tensor in kept.items() if tensor is not None}
            if state:  # a parameter that a stage does not use has none
                like = {"step": torch.zeros((), dtype=torch.float32), "exp_avg": p, "exp_avg_sq": p}
                if "step" in state and state["step"].is_floating_point():
                    state["step"] = state["step"].float()  # torch's unfused step counts in the default dtype
                if any(state.get(key) is None or not _alike(state[key], other) for key, other in like.items()):
                    raise ValueError(f"the optimizer's state of {name} is not whole")
                average = tensors.get(f"adam.average.{name}")
                state |= {} if average is None or not _alike(average, p) else {"average": average}
                self.adam.state[p] = {k: _placed(v, p) for k, v in state.items()}


class Watched:
    """The losses of a stage, looked at for what is not finite.

    To look at a loss is to wait for the device that computes it: on a CUDA device only every ``LOG_EVERY`` steps are.
    """

    def __init__(self, name: str, save: Path) -> None:
        self.name, self.save = name, save
        self._steps: list[int] = []
        self._losses: list[Tensor] = []

    def add(self, step: int, loss: Tensor) -> None:
        """Remember the loss of a step, and look at it now where that costs nothing."""
        self._steps.append(step)
        self._losses.append(loss.detach())
        if not loss.is_cuda:
            self.check()

    def check(self) -> None:
        """Look at every loss since the last look.

        Raises:
            ProcosmError: one is not finite; it names the first, with its step.
        """
        if not self._losses:
            return
        losses = torch.stack(self._losses).cpu()
        for step, loss in zip(self._steps, losses, strict=True):
            if not torch.isfinite(loss):
                raise ProcosmError(
                    f"{self.name}: the loss is {loss.item()} at step {step}. The data may hold NaN, or the learning "
                    f"rate is too high{f'; the last good state is in {self.save}' if self.save.exists() else ''}"
                )
        self._steps, self._losses = [], []


@dataclass
class Steps:
    """The steps of a stage: gradients, the optimizer's step, and what chooses the live blocks, around both."""

    config: StageConfig
    gradients: Gradients
    watched: Watched
    optimizer: Optimizer
    sparsifier: Sparsifier | None = None
    ema: float = 0.0

    def take(self, step: int) -> dict[str, Tensor]:
        """One step; its metrics.

        Raises:
            ProcosmError: on the CPU, a loss that is not finite; its gradient is not followed.
        """
        if self.sparsifier:
            self.sparsifier.before_step(step)
        loss, metrics = self.gradients(step)
        self.watched.add(step, loss)
        self.optimizer.step(rate(step, self.config))
        if self.sparsifier:
            self.sparsifier.after_step(step)
        if self.ema:
            self.optimizer.average(self.ema, step)
        self.optimizer.adam.zero_grad(set_to_none=True)
        return metrics


def run_stage(
    name: str,
    module: nn.Module,
    losses: Losses,
    config: StageConfig,
    save: Path,
    make_sparsifier: MakeSparsifier | None = None,
    how: Parallel = ALONE,
) -> dict[str, float]:
    """Train ``module`` for a stage and return the metrics of its last tenth, averaged.

    Args:
        name: shown on the progress bar.
        module: holds every parameter that is trained and every buffer that is kept.
        losses: step number to ``loss, metrics`` of this process's share of the batch.
        save: safetensors file for resuming; a finished stage stands in it and is not run again.
        make_sparsifier: builds what chooses the live blocks of the module's block-sparse layers; None leaves them.
        how: how the steps are shared out among the processes that train together.

    Raises:
        ProcosmError: a loss that is not finite, with the step; a save of another model.
        KeyboardInterrupt: Ctrl-C or SIGTERM, once the step it came in is done and saved.
    """
    saves = Save(save, config.steps)
    saved = saves.read()
    if saved:
        saved.load_module(module)
        if saved.step == config.steps:
            return _numbers(saved.sums)
    with signals_wait() as stopping:
        sums = _take_steps(name, module, losses, config, saves, saved, make_sparsifier, how, stopping)
        if sums is not None:
            saves.finish(module, sums)
    if sums is None:
        raise KeyboardInterrupt  # it was another process that was told to stop
    return _numbers(sums)


def _take_steps(
    name: str, module: nn.Module, losses: Losses, config: StageConfig, saves: Save, saved: Read | None,
    make_sparsifier: MakeSparsifier | None, how: Parallel, stopping: Callable[[], bool],
) -> dict[str, Tensor] | None:  # fmt: skip
    """The steps that are left of a stage; the sums of its metrics, None where it was stopped before its end."""
    tail, watched, gradients = max(1, config.steps // 10), Watched(name, saves.path), Gradients(module, losses, how)
    start, sums = (saved.step, saved.sums) if saved else (0, {})
    with gradients.ready(start), Progress(config.steps, name, "step", start) as bar:
        optimizer = Optimizer(module, config)
        sparsifier = make_sparsifier(module, optimizer.adam, config.steps) if make_sparsifier else None
        if sparsifier and gradients.parts > 1:
            sparsifier.measure_whole_gradients()
        if saved:
            saved.load_rest(module, optimizer, sparsifier)
        steps, last = Steps(config, gradients, watched, optimizer, sparsifier, how.ema), time.monotonic()
        for step in Pace().over(range(start, config.steps)):
            metrics = steps.take(step)
            if step >= config.steps - tail:
                sums = {k: v / tail + sums[k].to(v.device) if k in sums else v / tail for k, v in metrics.items()}
            if step % LOG_EVERY == 0:
                watched.check()
                bar.show(_numbers(metrics))
            bar.update()
            choice = decide(STOP if stopping() else SAVE if time.monotonic() - last >= SAVE_SECONDS else GO_ON)
            if choice != GO_ON and step + 1 < config.steps:
                watched.check()
                saves.write(module, optimizer, step + 1, sums, sparsifier, gradients.in_shards)
                last = time.monotonic()
                if choice == STOP:
                    return None
        watched.check()
        if how.ema:
            optimizer.take_average()
    return sums


def _numbers(metrics: dict[str, Tensor]) -> dict[str, float]:
    """Single numbers from a device, waiting for it once."""
    return dict(zip(metrics, torch.stack(list(metrics.values())).cpu().tolist(), strict=True)) if metrics else {}


def _placed(value: Tensor, parameter: Tensor) -> Tensor:
    """Optimizer state where its parameter lies, in shards if that is."""
    if value.shape != parameter.shape or not hasattr(parameter, "full_tensor") or hasattr(value, "full_tensor"):
        return value.to(parameter.device)
    placed = torch.zeros_like(parameter.detach())
    write(placed, value.to(parameter.device))
    return placed


def _alike(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and tensor.dtype == other.dtype
