"""What a training step sees: windows of real episodes, in the task's own units, which each model scales for itself."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class Batch:
    """Windows of ``context`` frames of the past and ``horizon`` steps after them.

    Attributes:
        frames: (b, context + horizon, H, W, 3) uint8; empty where a model is trained on latents.
        latents: (b, context + horizon, c, h, w), standardised; empty where a tokenizer is trained.
        actions: (b, context - 1 + horizon, a), at each frame but the last; NaN before the episode began.
        signals: what was logged, by name: ``state`` (b, context + horizon, s), of each frame; ``reward`` and
            ``success`` (b, horizon), of each step; ``text`` (b, l, e), what was asked for, embedded, of models that
            take words.
        ends: (b, horizon), 1 where the step ended the episode for good. mask: (b, horizon), 1 where the step exists.
    """

    frames: Tensor
    latents: Tensor
    actions: Tensor
    signals: Mapping[str, Tensor]
    ends: Tensor
    mask: Tensor

    def rows(self, rows: slice) -> "Batch":
        """Some of its windows."""
        signals = {name: value[rows] for name, value in self.signals.items()}
        kept = {name: value[rows] for name, value in vars(self).items() if name != "signals"}
        return replace(self, signals=signals, **kept)

    def to(self, device: torch.device) -> "Batch":
        """The batch on a device."""
        signals = {name: value.to(device) for name, value in self.signals.items()}
        moved = {k: v.to(device) for k, v in vars(self).items() if k != "signals"}
        return replace(self, signals=signals, **moved)


def random_batch(
    count: int,
    context: int,
    horizon: int,
    actions: int,
    signals: Mapping[str, int],
    frame: tuple[int, int] = (0, 0),
    latent: tuple[int, int, int] = (0, 0, 0),
) -> Batch:
    """A made-up batch, for what times or traces a training step.

    Args:
        count, context, horizon, actions: b, context, horizon and a.
        signals: length of ``state``, where it is one; ``reward`` and ``success`` have none that counts.
        frame, latent: shapes; all zeros where there are none.
    """
    length = context + horizon
    made = {"state": torch.randn(count, length, signals.get("state", 0)), "reward": torch.randn(count, horizon)}
    made["success"] = torch.zeros(count, horizon)
    return Batch(
        frames=torch.randint(0, 256, (count, length, *frame, 3), dtype=torch.uint8),
        latents=torch.randn(count, length, *latent),
        actions=torch.rand(count, length - 1, actions) * 2 - 1,
        signals={name: made[name] for name in signals},
        ends=torch.zeros(count, horizon),
        mask=torch.ones(count, horizon),
    )
