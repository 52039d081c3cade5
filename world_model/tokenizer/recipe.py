"""How a causal tokenizer is trained, and the sizes it comes in."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor, nn

from procosm.world_model.data.batch import Batch
from procosm.world_model.data.on_disk import some
from procosm.world_model.data.share import share
from procosm.world_model.data.source import Source
from procosm.world_model.data.windows import Table, cut
from procosm.world_model.encoding import FRAMES
from procosm.world_model.heads import StateHead
from procosm.world_model.precision import bfloat16_pays
from procosm.world_model.tokenizer.loss import MotionHead, TokenizerLoss, TokenizerLossConfig
from procosm.world_model.tokenizer.model import CausalTokenizer, TokenizerConfig
from procosm.world_model.training.layouts import LAYOUTS
from procosm.world_model.training.recipes import Recipe, Stage, Training

LEAST = 3
"""Frames in a window, at least: of fewer nobody can tell how straight their latents are."""
SAMPLE = 4096
"""Frames, about, whose latents say how latents are standardised."""
LINEAR = 256
"""Frames, about, whose principal components a linear path begins with."""
COLOURED = 1 << 22
"""Pixels, about, that say which colours are rare."""


@dataclass(frozen=True)
class Tokenize(Stage):
    """The tokenizer, with the state head that reads its latents; without states, with a head that reads motion."""

    loss: TokenizerLossConfig = field(default_factory=TokenizerLossConfig)
    """Weights of the loss."""
    chooses: ClassVar[str] = "tokenizer"

    def run(self, name: str, training: Training) -> dict[str, Any]:
        """See Stage."""
        tokenizer, table = training.tokenizer, training.table
        frames = max(training.dynamics.context, LEAST)
        tokenizer.mean_frame.copy_((mean_frame(table) / 127.5 - 1).permute(2, 0, 1)[:, None])
        if tokenizer.linear is not None and not tokenizer.trained:
            tokenizer.fit_linear(tokenizer.pixels(table.seen(every(table, LINEAR))[:, None]))
        # The encoder stays in float32: how fast a thing moves is in the last digits of its latents.
        tokenizer.mixed = table.device.type == "cuda" and bfloat16_pays(table.device)
        loss = TokenizerLoss(self.loss, tokenizer, _head(training, frames)).to(table.device)
        if isinstance(loss.head, MotionHead):
            parts = every(table, max(1, COLOURED // math.prod(table.frames.shape[1:3]))).split(FRAMES)
            seen = (tokenizer.pixels(table.seen(part)[:, None]) for part in parts)
            loss.rarity.fit(pixels - tokenizer.mean_frame for pixels in seen)
        source = Source(table, self.batch, training.seed, training.in_epochs)

        def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            at = source.batch(step, share().index, share().count)
            noise = torch.Generator().manual_seed(training.seed * 1_000_003 + step)
            return loss(cut(table, at, frames - 1, 1), noise)

        metrics = training.optimise(name, loss, losses, self, self.chooses)
        tokenizer.mixed = False
        with torch.no_grad():
            parts = (table.seen(part)[:, None] for part in every(table, SAMPLE).split(FRAMES))
            tokenizer.fit_latents(torch.cat([tokenizer.to_latents(tokenizer.pixels(part)) for part in parts]))
        return {name: metrics}

    def rehearsal(self, module: CausalTokenizer, batch: Batch) -> tuple[nn.Module, Callable[[], Tensor]]:
        """See Stage."""
        device, frames, actions = module.mean.device, batch.frames.shape[1], batch.actions.shape[2]
        head: StateHead | MotionHead = MotionHead(frames, module.spec.shape, actions)
        if "state" in batch.signals:
            head = StateHead(frames - 1, module.spec.shape, batch.signals["state"].shape[2])
        batch, loss = batch.to(device), TokenizerLoss(self.loss, module, head).to(device)
        module.mixed = device.type == "cuda" and bfloat16_pays(device)
        return loss, lambda: loss(batch, torch.Generator().manual_seed(0))[0]


def every(table: Table, count: int) -> Tensor:
    """Indices of so many of a table's frames, about, evenly spread."""
    return torch.arange(0, len(table.frames), max(1, len(table.frames) // count))


def mean_frame(table: Table) -> Tensor:
    """(H, W, 3): of every seventh frame, fewer where they lie on disk."""
    frames = table.frames
    if isinstance(frames, Tensor):
        return frames[::7].float().mean(0)
    parts = some(frames, torch.arange(len(frames))[::7]).split(FRAMES)
    total = np.zeros(frames.shape[1:])
    for part in parts:  # by NumPy, for torch sums a copy in doubles, and such copies leave holes in the heap
        total += frames[part].numpy().sum(0, dtype=np.float64)
    return torch.from_numpy(total / sum(map(len, parts))).float()


def _head(training: Training, frames: int) -> StateHead | MotionHead:
    """What must be readable from the latents, fitted to the data: the state, or what was done where none was logged."""
    table, state_head = training.table, getattr(training.dynamics, "state_head", None)
    if state_head is not None:
        state_head.fit(table.signals["state"])
        return state_head
    motion = MotionHead(frames, training.tokenizer.spec.shape, table.actions.shape[1]).to(table.device)
    rewards = table.signals.get("reward")
    motion.fit(table.actions[table.steps], None if rewards is None else rewards[table.steps])
    return motion


_SMALL = Recipe(TokenizerConfig(), {"tokenizer": Tokenize(800, 32, 1.5e-3)})
RECIPES = {
    "debug": Recipe(TokenizerConfig(width=8, blocks=0), {"tokenizer": Tokenize(20, 4, 1e-3)}),
    "small": _SMALL,
    "fast": _SMALL,
    "medium": Recipe(TokenizerConfig(), {"tokenizer": Tokenize(2400, 32, 1.5e-3)}),
    "base": Recipe(TokenizerConfig(), {"tokenizer": Tokenize(6000, 64, 1e-3)}),
    "wide": _SMALL,
} | {
    name: Recipe(TokenizerConfig(latent_channels=16, width=128, blocks=2), {"tokenizer": Tokenize(20_000, 64, 5e-4)})
    for name in LAYOUTS
}
