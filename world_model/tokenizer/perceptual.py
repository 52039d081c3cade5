"""A perceptual distance without a learned network: how far the local edges and colours of two pictures are apart.

Gabor features are energies of oriented edges at three scales, as complex cells of the visual cortex have them
(Adelson and Bergen 1985), divided by the contrast around them, and two opponent colours beside them. They take the
place of the VGG-19 features in the losses of Cosmos (arXiv 2501.03575, §4), whose weights would have to be downloaded;
they know no objects. Axis letters: n picture, f feature.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SCALES, ORIENTATIONS = 3, 4
RADIUS, SIGMA, WAVELENGTH = 3, 1.4, 4.0
"""Of a filter, in pixels of its scale."""
CONTRAST = 0.1
"""Energy at which dividing by the contrast sets in, in a range of 2."""
OPPONENT = ((1 / 3, 1 / 3, 1 / 3), (0.5, -0.5, 0.0), (0.25, 0.25, -0.5))
"""Brightness, red against green, yellow against blue."""


def gabor_filters() -> Tensor:
    """(2 · orientations, 1, k, k): a cosine and a sine of each orientation under a Gaussian, blind to brightness."""
    at = torch.arange(-RADIUS, RADIUS + 1, dtype=torch.float64)
    y, x = torch.meshgrid(at, at, indexing="ij")
    window = torch.exp(-(x.square() + y.square()) / (2 * SIGMA**2))
    found = []
    for i in range(ORIENTATIONS):
        angle = math.pi * i / ORIENTATIONS
        phase = (x * math.cos(angle) + y * math.sin(angle)) * (2 * math.pi / WAVELENGTH)
        for wave in (phase.cos(), phase.sin()):
            wave = wave - (wave * window).sum() / window.sum()
            found.append(wave * window / (wave * window).abs().sum())
    return torch.stack(found)[:, None].float()


class GaborFeatures(nn.Module):
    """Pictures to features at each scale."""

    filters: Tensor
    opponent: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("filters", gabor_filters(), persistent=False)
        self.register_buffer("opponent", torch.tensor(OPPONENT).view(3, 3, 1, 1), persistent=False)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(n, 3, h, w) in [-1, 1] to (n, f, h / 2^s, w / 2^s) at each scale s that is large enough for a filter."""
        seen = F.conv2d(x, self.opponent)
        found = []
        for scale in range(SCALES):
            if scale:
                seen = F.avg_pool2d(seen, 2)
            if min(seen.shape[2:]) <= RADIUS:
                break
            padded = F.pad(seen[:, :1], (RADIUS,) * 4, mode="reflect")
            waves = F.conv2d(padded, self.filters).unflatten(1, (ORIENTATIONS, 2))
            energy = (waves.square().sum(2) + 1e-8).sqrt()
            contrast = energy.square().sum(1, keepdim=True).add(CONTRAST**2).sqrt()
            found.append(torch.cat([energy / contrast, seen[:, 1:]], dim=1))
        return found


def feature_distance(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """(n,): mean difference of two pictures' features, scales counting alike; 0 for equal pictures."""
    parts = [(a - b).abs().mean((1, 2, 3)) for a, b in zip(first, second, strict=True)]
    return torch.stack(parts).mean(0)


def gram_distance(first: list[Tensor], second: list[Tensor]) -> Tensor:
    """(n,): mean difference of the Gram matrices of features: which occur together, wherever they are (texture).

    Source: Gatys, Ecker and Bethge 2016, eq. 5, with absolute differences.
    """

    def gram(features: Tensor) -> Tensor:
        flat = features.flatten(2)
        return flat @ flat.transpose(1, 2) / flat.shape[2]

    parts = [(gram(a) - gram(b)).abs().mean((1, 2)) for a, b in zip(first, second, strict=True)]
    return torch.stack(parts).mean(0)
