"""FrameNet: the network of a perceptual distance, small enough to be trained where it is used.

It looks at single frames of the training tasks and reads their true states, so its features hold where things are and
what shape they have. It knows no decoded frame, and no tokenizer is trained with it. The distance is that of LPIPS
(Zhang et al. 2018, eq. 1) with all weights equal: features of each layer are brought to unit length at each place, and
squared differences averaged over places, then over layers. Distances by different networks do not compare.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from procosm.world_model.data.episodes import Episode

CHANNELS = (16, 32, 48)
BATCH, LEARNING_RATE = 32, 2e-3


class FrameNet(nn.Module):
    """Frames (n, 3, h, w) in [-1, 1] to the features of each layer, half as large as those before.

    Args:
        heads: length of each training task's state. side: of the square frames it trains on, pixels.
    """

    def __init__(self, heads: Mapping[str, int], side: int) -> None:
        super().__init__()
        inputs = (3, *CHANNELS[:-1])
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 4, 2, 1) for a, b in zip(inputs, CHANNELS, strict=True))
        self.names = list(heads)
        seen = CHANNELS[-1] * (side >> len(CHANNELS)) ** 2
        self.heads = nn.ModuleList(nn.Linear(seen, size) for size in heads.values())

    def forward(self, x: Tensor) -> list[Tensor]:
        found = []
        for layer in self.layers:
            x = F.silu(layer(x))
            found.append(x)
        return found

    def read(self, task: str, x: Tensor) -> Tensor:
        """(n, s): the state of a task, in deviations."""
        return self.heads[self.names.index(task)](self.forward(x)[-1].flatten(1))


def train_frame_net(episodes: Mapping[str, Sequence[Episode]], steps: int, seed: int) -> FrameNet:
    """A network trained on all frames of each task's episodes, one task after another."""
    frames = {task: np.concatenate([e.frames for e in each]) for task, each in episodes.items()}
    states = {task: np.concatenate([e.signals["state"] for e in each]) for task, each in episodes.items()}
    wanted = {task: (s - s.mean(0)) / np.maximum(s.std(0), 1e-6) for task, s in states.items()}
    generator = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        side = next(iter(frames.values())).shape[1]
        net = FrameNet({task: each.shape[1] for task, each in wanted.items()}, side)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for step in range(steps):
        task = net.names[step % len(net.names)]
        drawn = generator.integers(len(frames[task]), size=BATCH)
        target = torch.from_numpy(wanted[task][drawn]).float()
        loss = F.smooth_l1_loss(net.read(task, unit(frames[task][drawn])), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.requires_grad_(False).eval()


def unit(frames: np.ndarray) -> Tensor:
    """(n, H, W, 3) uint8 to (n, 3, H, W) in [-1, 1]."""
    return torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1


@torch.no_grad()
def frame_distance(net: FrameNet, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n,): distances of frames (n, H, W, 3) uint8; 0 for equal ones."""
    parts = [
        (F.normalize(a, dim=1) - F.normalize(b, dim=1)).square().sum(1).mean((1, 2))
        for a, b in zip(net(unit(first)), net(unit(second)), strict=True)
    ]
    return torch.stack(parts).mean(0).numpy()
