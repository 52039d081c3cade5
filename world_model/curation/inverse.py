"""Inverse dynamics: what a robot did, estimated from what its cameras saw before and after."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from procosm.world_model.threads import one_thread

SIDE = 32
"""Pixels of a picture's height that the model looks at."""
FOLDS = 2
AROUND = 2
"""Changes of the picture before and after a step that the model looks at, beside the step's own."""
CHANGE = 8
"""By how much changes are enlarged to be as large as pictures."""
BATCH, RATE = 64, 4e-3
LEAST_SAMPLES = 200
"""Steps of logs below which nothing can be learned about how frames answer to actions."""


def small(frames: np.ndarray) -> np.ndarray:
    """(n, 32, w) uint8: frames (n, H, W, 3) in grey, as wide for each height as they were."""
    import cv2

    width = max(8, round(SIDE * frames.shape[2] / frames.shape[1] / 8) * 8)
    return np.stack(
        [cv2.resize(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), (width, SIDE), interpolation=cv2.INTER_AREA) for f in frames]
    )


def windows(pictures: Tensor) -> Tensor:
    """(n, h, w) uint8 to (n - 1, 6, h, w): for each step the picture before it, and the changes around it.

    An action often shows best in what comes after: a torque changes a speed, which takes pictures before and after
    to be seen. Beyond the ends nothing changes.
    """
    values = pictures.float() / 255
    change = (values[1:] - values[:-1]) * CHANGE
    padded = nn.functional.pad(change, (0, 0, 0, 0, AROUND, AROUND))
    around = [padded[offset : offset + len(change)] for offset in range(2 * AROUND + 1)]
    return torch.stack([values[:-1] - 0.5, *around], 1)


class InverseModel(nn.Module):
    """A small convolutional network from pictures around a step to its action."""

    def __init__(self, action_size: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(2 * AROUND + 2, 24, 4, 2, 1), nn.GELU(),
            nn.Conv2d(24, 32, 4, 2, 1), nn.GELU(),
            nn.Conv2d(32, 32, 4, 2, 1), nn.GELU(),
            nn.Flatten(), nn.LazyLinear(128), nn.GELU(), nn.Linear(128, action_size),
        )  # fmt: skip

    def forward(self, seen: Tensor) -> Tensor:
        """(b, 6, h, w) to (b, a), actions in standard deviations from their mean."""
        found: Tensor = self.body(seen)
        return found


@dataclass(frozen=True)
class Sample:
    """What is learned from of one log: pictures (n, h, w) uint8, actions (n - 1, a)."""

    pictures: np.ndarray
    actions: np.ndarray


@one_thread()
def fit(samples: Sequence[Sample], seed: int, steps: int) -> InverseModel:
    """A model of what these logs did, trained for so many steps; the same for the same samples and seed."""
    torch.manual_seed(seed)
    model = InverseModel(samples[0].actions.shape[1])
    seen = torch.cat([windows(torch.from_numpy(s.pictures)) for s in samples])
    acted = torch.from_numpy(np.concatenate([s.actions for s in samples])).float()
    acted = (acted - acted.mean(0)) / acted.std(0).clamp_min(1e-6)
    model(seen[:2])
    optimizer = torch.optim.AdamW(model.parameters(), RATE, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        chosen = torch.randint(len(seen), (BATCH,), generator=generator)
        # Logs whose actions belong elsewhere are to be found, not learned by heart: far misses count linearly.
        loss = nn.functional.smooth_l1_loss(model(seen[chosen]), acted[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.eval().requires_grad_(False)


@one_thread()
@torch.inference_mode()
def estimate(model: InverseModel, pictures: np.ndarray) -> np.ndarray:
    """(n - 1, a): the actions between these pictures (n, h, w), in standard deviations."""
    found: np.ndarray = model(windows(torch.from_numpy(pictures))).numpy()
    return found
