"""A second kind of tokenizer and dynamics that shares nothing with the first: pooled colours, and a linear recurrence.

Its memory is one hidden vector a dream, and it tells neither a state nor an end.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from procosm.world_model.data.task import Task
from procosm.world_model.interface import MEAN, Condition, LatentSpec, Prediction, Sampling, Tokenizer


@dataclass(frozen=True)
class PooledConfig:
    """Cells along each side of a latent."""

    cells: int = 4


@dataclass(frozen=True)
class RecurrentConfig:
    """Numbers that are remembered of a dream."""

    hidden: int = 7


class Pooled(nn.Module):
    """The mean colour of each cell of a frame, from -1 to 1."""

    gain: Tensor

    def __init__(self, config: PooledConfig, task: Task) -> None:
        super().__init__()
        self.config, self.side, self.mixed = config, task.height, False
        self.spec = LatentSpec((3, config.cells, config.cells))
        self.register_buffer("gain", torch.full((), 127.5))

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        pixels = frames.flatten(0, 1).movedim(-1, 1).float()
        cells = nn.functional.adaptive_avg_pool2d(pixels, self.config.cells)
        return (cells / self.gain - 1).unflatten(0, frames.shape[:2])

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        levels = ((latents.flatten(0, 1) + 1) * self.gain).round().clamp(0, 255)
        pixels = nn.functional.interpolate(levels, size=(self.side, self.side), mode="nearest")
        return pixels.to(torch.uint8).movedim(1, -1).unflatten(0, latents.shape[:2])


@dataclass(frozen=True)
class Hidden:
    """(b, hidden)."""

    values: Tensor

    def take(self, slots: Tensor) -> "Hidden":
        return Hidden(self.values[slots])

    @torch.inference_mode()
    def put(self, slots: Tensor, other: "Hidden") -> None:
        self.values[slots] = other.values


class Recurrent(nn.Module):
    """h' = tanh(W h + U a), in place; z = V h, plus noise of its own where more than the mean is asked for."""

    readouts = frozenset({"reward"})
    context = 1

    def __init__(self, config: RecurrentConfig, task: Task, tokenizer: Tokenizer) -> None:
        super().__init__()
        self.config, self.latent_shape, self.mixed = config, tokenizer.spec.shape, False
        size = int(np.prod(self.latent_shape))
        self.seen, self.shown = nn.Linear(size, config.hidden), nn.Linear(config.hidden, size)
        self.moved = nn.Linear(config.hidden, config.hidden)
        self.acted = nn.Linear(len(task.action_low), config.hidden)

    @torch.inference_mode()
    def begin(self, latents: Tensor, condition: Condition | None = None) -> Hidden:
        return Hidden(self.seen(latents[:, -1].flatten(1)).tanh())

    def read(self, memory: Hidden) -> Mapping[str, Tensor]:
        return {}

    @torch.inference_mode()
    def step(
        self,
        memory: Hidden,
        action: Tensor,
        draws: Sequence[np.random.Generator] | None = None,
        sampling: Sampling = MEAN,
    ) -> tuple[Hidden, Prediction]:
        memory.values.copy_((self.moved(memory.values) + self.acted(action)).tanh())
        if draws is not None and sampling.steps > 1:
            memory.values.add_(torch.tensor([0.1 * each.uniform(-1, 1) for each in draws])[:, None])
        latents = self.shown(memory.values).tanh().unflatten(1, self.latent_shape)
        return memory, Prediction(latents, {"reward": memory.values[:, 0].clone()})
