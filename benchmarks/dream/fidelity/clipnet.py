"""The feature network of the Fréchet video distance, small enough to be trained where it is used.

``clipnet`` looks at each of 8 real frames with a 2-D convolutional network and at all of them together with a small
MLP, which reads the task's true state at both ends and the mean action between: what its features hold is where things
are and how they move. It is trained on the training
part of a run, never on dreams, and knows nothing of the world model. Distances by different networks do not compare;
neither do those of different tasks.

Axis letters: n clip, t frame, h w pixels, d feature.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from procosm.world_model.data.episodes import Episode
from procosm.world_model.errors import DatasetError

FRAMES, FEATURES, SIDE = 8, 32, 32
BATCH, LEARNING_RATE = 32, 2e-3


class ClipNet(nn.Module):
    """Clips to features, and from these to what it was trained to read."""

    def __init__(self, targets: int) -> None:
        super().__init__()
        self.look = nn.Sequential(
            nn.Conv2d(3, 16, 4, 2, 1), nn.SiLU(),
            nn.Conv2d(16, 16, 3, 2, 1), nn.SiLU(),
            nn.Conv2d(16, 16, 3, 2, 1), nn.SiLU(),
            nn.Flatten(), nn.Linear(16 * (SIDE // 8) ** 2, FEATURES),
        )  # fmt: skip
        self.join = nn.Sequential(nn.Linear(FRAMES * FEATURES, 128), nn.SiLU(), nn.Linear(128, FEATURES))
        self.read = nn.Sequential(nn.SiLU(), nn.Linear(FEATURES, targets))

    def forward(self, clips: Tensor) -> Tensor:
        """uint8 (n, t, h, w, 3) to features (n, d)."""
        n = len(clips)
        frames = clips.flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1  # (n·t, 3, h, w)
        small = F.interpolate(frames, size=(SIDE, SIDE), mode="area")
        return self.join(self.look(small).view(n, FRAMES * FEATURES))


def train_clipnet(episodes: Sequence[Episode], steps: int, seed: int) -> ClipNet:
    """A network trained on every clip of real ``episodes``.

    Raises:
        DatasetError: no episode has 8 frames.
    """
    starts = [(e, first) for e in episodes for first in range(len(e.frames) - FRAMES + 1)]
    if not starts:
        raise DatasetError(f"no episode has {FRAMES} frames, so no video distance can be learned: collect again")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = ClipNet(len(_wanted(*starts[0])))
    wanted = np.stack([_wanted(*start) for start in starts])
    wanted = (wanted - wanted.mean(axis=0)) / np.maximum(wanted.std(axis=0), 1e-6)
    generator = np.random.default_rng(seed)
    optimizer = torch.optim.AdamW(net.parameters(), LEARNING_RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
    for _ in range(steps):
        drawn = generator.integers(len(starts), size=BATCH)
        clips = np.stack([starts[i][0].frames[starts[i][1] : starts[i][1] + FRAMES] for i in drawn])
        found = net.read(net(torch.from_numpy(clips)))
        loss = F.smooth_l1_loss(found, torch.from_numpy(wanted[drawn]).float())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return net.requires_grad_(False).eval()


def _wanted(episode: Episode, first: int) -> np.ndarray:
    """(2 s + a,) float64: the state at both ends of a clip, and the mean action between."""
    last = first + FRAMES - 1
    action = episode.actions[first:last].mean(axis=0)
    return np.concatenate((episode.signals["state"][first], episode.signals["state"][last], action)).astype(np.float64)


@torch.inference_mode()
def features(net: ClipNet, clips: np.ndarray) -> np.ndarray:
    """(n, d) float64 features of (n, 8, h, w, 3) uint8 clips."""
    parts = [net(torch.from_numpy(clips[i : i + BATCH])) for i in range(0, len(clips), BATCH)]
    return torch.cat(parts).double().numpy()


def frechet(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Fréchet distance, (…), of Gaussians fitted to (…, n, d) features: |μ − ν|² + tr(A + B − 2 (A B)^½).

    What rounding alone could make of equal features is 0: roots of numbers that are 0 to rounding are wrong by more.

    Source: Heusel et al. 2017, eq. 6; for video Unterthiner et al. 2018.
    """
    shift = np.square(x.mean(axis=-2) - y.mean(axis=-2)).sum(axis=-1)
    a, b = _covariance(x), _covariance(y)
    values, vectors = np.linalg.eigh(a)
    root = (vectors * np.sqrt(np.maximum(values, 0))[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    # tr (A B)^½ = tr (A^½ B A^½)^½, whose argument is symmetric.
    cross = np.sqrt(np.maximum(np.linalg.eigvalsh(root @ b @ root), 0)).sum(axis=-1)
    trace = np.trace(a, axis1=-2, axis2=-1) + np.trace(b, axis1=-2, axis2=-1)
    distance = shift + trace - 2 * cross
    return np.where(distance > x.shape[-1] * np.sqrt(np.finfo(np.float64).eps) * trace, distance, 0.0)


def _covariance(x: np.ndarray) -> np.ndarray:
    apart = x - x.mean(axis=-2, keepdims=True)
    return np.swapaxes(apart, -1, -2) @ apart / (x.shape[-2] - 1)
