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
from typing import Annotated, Any, Protocol

import torch
from annotated_types import Ge
from torch import Tensor, nn

from procosm import sparse
from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.files import read_tensors, under, write_tensors
from procosm.world_model.precision import float32_convolutions
from procosm.world_model.progress import Progress
from procosm.world_model.settings import Count, Positive, Settings
from procosm.world_model.stopping import SAVE_SECONDS, signals_wait
from procosm.world_model.training.pace import Pace

LOG_EVERY = 20
"""Steps between looks at the metrics and, on a CUDA device, at the loss."""

Losses = Callable[[int], tuple[Tensor, dict[str, Tensor]]]


class Sparsifier(Protocol):
    """What chooses the live blocks while a stage runs, see procosm.sparse.sparsifier."""

    def before_step(self, step: int) -> None: ...
    def after_step(self, step: int) -> None: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: dict[str, Tensor]) -> None: ...


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
    block-sparse one that of ``sparse.optim``; on the CPU torch's is the fastest for both. All have the same state.
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
        if thin and on_gpu:  # capturable: steps are counted in a tensor, as torch does
            return sparse.optim.AdamW(groups, config.learning_rate, capturable=True, **settings)
        return torch.optim.AdamW(groups, config.learning_rate, fused=on_gpu or None, **settings)

    def step(self, learning_rate: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = learning_rate * group["rate"]
        nn.utils.clip_grad_norm_(self.named.values(), 1.0)
        self.adam.step()

    def tensors(self) -> dict[str, Tensor]:
        state = self.adam.state
        return {f"adam.{key}.{name}": v for name, p in self.named.items() for key, v in state[p].items()}

    def load(self, tensors: dict[str, Tensor]) -> None:
        for name, p in self.named.items():
            kept = {key: tensors.get(f"adam.{key}.{name}") for key in ("step", "exp_avg", "exp_avg_sq")}
            state = {key: tensor for key, tensor in kept.items() if tensor is not None}
            if state:  # a parameter that a stage does not use has none
                like = {"step": torch.zeros(()), "exp_avg": p, "exp_avg_sq": p}
                if any(state.get(key) is None or not _alike(state[key], other) for key, other in like.items()):
                    raise ValueError(f"the optimizer's state of {name} is not whole")
                self.adam.state[p] = {k: v.to(p.device) for k, v in state.items()}


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


def run_stage(
    name: str,
    module: nn.Module,
    losses: Losses,
    config: StageConfig,
    save: Path,
    make_sparsifier: MakeSparsifier | None = None,
) -> dict[str, float]:
    """Train ``module`` for a stage and return the metrics of its last tenth, averaged.

    Args:
        name: shown on the progress bar.
        module: holds every parameter that is trained and every buffer that is kept.
        losses: step number to ``loss, metrics``.
        save: safetensors file for resuming; a finished stage stands in it and is not run again.
        make_sparsifier: builds what chooses the live blocks of the module's block-sparse layers; None leaves them.

    Raises:
        ProcosmError: a loss that is not finite, with the step; a save of another model.
        KeyboardInterrupt: Ctrl-C or SIGTERM, once the step it came in is done and saved.
    """
    optimizer = Optimizer(module, config)
    sparsifier = make_sparsifier(module, optimizer.adam, config.steps) if make_sparsifier else None
    start, sums = _resume(save, module, optimizer, sparsifier, config.steps) if save.exists() else (0, {})
    tail, watched = max(1, config.steps // 10), Watched(name, save)
    saved = time.monotonic()
    with signals_wait() as stopping, Progress(config.steps, name, "step", start) as bar:
        for step in Pace().over(range(start, config.steps)):
            if sparsifier:
                sparsifier.before_step(step)
            loss, metrics = losses(step)
            watched.add(step, loss)
            with float32_convolutions():
                loss.backward()
            optimizer.step(rate(step, config))
            if sparsifier:
                sparsifier.after_step(step)
            optimizer.adam.zero_grad(set_to_none=True)
            if step >= config.steps - tail:
                sums = {k: v / tail + sums[k].to(v.device) if k in sums else v / tail for k, v in metrics.items()}
            if step % LOG_EVERY == 0:
                watched.check()
                bar.show(_numbers(metrics))
            bar.update()
            if step + 1 == config.steps:
                watched.check()
                _save(save, module, {}, config.steps, sums)
            elif stopping() or time.monotonic() - saved >= SAVE_SECONDS:
                watched.check()
                _save(save, module, optimizer.tensors(), step + 1, sums, sparsifier)
                saved = time.monotonic()
            if stopping():
                break
    return _numbers(sums)


def _numbers(metrics: dict[str, Tensor]) -> dict[str, float]:
    """Single numbers from a device, waiting for it once."""
    return dict(zip(metrics, torch.stack(list(metrics.values())).cpu().tolist(), strict=True)) if metrics else {}


def _resume(
    save: Path, module: nn.Module, optimizer: Optimizer, sparsifier: Sparsifier | None, steps: int
) -> tuple[int, dict[str, Tensor]]:
    """Everything as it was saved; returns the step to go on with and the sums of the metrics so far."""
    advice = f"delete {save}, and run the same command again to train this stage anew"
    tensors = read_tensors(save, advice)
    try:
        start = _step(tensors, steps)
    except ValueError as error:
        raise CheckpointError(f"{save} is damaged ({error}): {advice}") from error
    try:
        model, present = under("model.", tensors), module.state_dict()
        if odd := [name for name in model if name in present and model[name].dtype != present[name].dtype]:
            raise ValueError(f"{odd[0]} is {model[odd[0]].dtype}, the model's is {present[odd[0]].dtype}")
        module.load_state_dict(model)
        if sparsifier and start < steps:
            sparsifier.load_state_dict(under("sparsifier.", tensors))
        if start < steps:
            optimizer.load(tensors)
    except (RuntimeError, ValueError) as error:
        raise ProcosmError(
            f"{save} was begun with another model: give its settings to go on, or delete it. {error}"
        ) from error
    return start, under("sum.", tensors)


def _alike(tensor: Tensor, other: Tensor) -> bool:
    return tensor.shape == other.shape and tensor.dtype == other.dtype


def _step(tensors: dict[str, Tensor], steps: int) -> int:
    """The step of a save; a ValueError where something in it can be no save's."""
    step = tensors.get("step")
    if step is None or step.dtype != torch.int64 or step.dim() or not 0 < int(step) <= steps:
        raise ValueError(f"step is {'missing' if step is None else step.tolist()}, and the stage has {steps}")
    for name, tensor in tensors.items():
        if name != "step" and not name.startswith(("model.", "adam.", "sum.", "sparsifier.")):
            raise ValueError(f"{name} is nothing that a save holds")
        if name.startswith(("model.", "adam.", "sum.")) and not tensor.isfinite().all():
            raise ValueError(f"{name} is not finite")
        if name.startswith("sum.") and (tensor.dim() or not tensor.is_floating_point()):
            raise ValueError(f"{name} is no number")
    return int(step)


def _save(
    path: Path,
    module: nn.Module,
    optimizer: dict[str, Tensor],
    step: int,
    sums: dict[str, Tensor],
    sparsifier: Sparsifier | None = None,
) -> None:
    model = {f"model.{k}": v for k, v in module.state_dict().items()}
    tail = {f"sum.{k}": v.clone() for k, v in sums.items()}
    choice = {f"sparsifier.{k}": v for k, v in sparsifier.state_dict().items()} if sparsifier else {}
    write_tensors(path, model | optimizer | tail | choice | {"step": torch.tensor(step)})
