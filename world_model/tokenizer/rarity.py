"""Which colours are rare: what stands still and is small is told by nothing else (Zhang, Isola and Efros 2016, §2.2).

A target of six red pixels is .2 per cent of a picture and may decide all of the reward. A reconstruction loss that
counts pixels alike, or all the foreground alike, paints it grey. Zhang et al. weigh the classes of their colours by
the inverse of their frequency; here colours are differences from the mean frame, so that the background is one common
colour however it is painted, and their frequency has a floor and a power.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

BINS = 8
"""Of each of red, green and blue."""
FLOOR = 1e-3
"""Share of all pixels below which colours count as equally rare: edges and noise make many of a pixel or two."""


class ColourRarity(nn.Module):
    """Weights of pixels by the frequency of their colours in the data, 1 for the most frequent.

    Weights are ((p + FLOOR) / (max p + FLOOR)) ** -power of a colour with share p of the pixels; power 0 leaves all
    alike, 1 lets every colour count as much as any other.
    """

    weights: Tensor

    def __init__(self, power: float) -> None:
        super().__init__()
        self.power = power
        self.register_buffer("weights", torch.ones(BINS**3), persistent=False)

    @torch.no_grad()
    def fit(self, parts: Iterable[Tensor]) -> None:
        """Count the colours of differences from the mean frame, each within -2 to 2, in parts (n, 3, …)."""
        counts = torch.zeros_like(self.weights, dtype=torch.float64)
        for away in parts:
            counts += torch.bincount(_colours(away).flatten(), minlength=len(counts))
        shares = counts / counts.sum() + FLOOR
        self.weights.copy_((shares / shares.max()) ** -self.power)

    def forward(self, away: Tensor) -> Tensor:
        """(n, 1, …) weights of the pixels of (n, 3, …) differences from the mean frame."""
        return self.weights[_colours(away)][:, None]


def _colours(away: Tensor) -> Tensor:
    """(n, …) indices of the bins of (n, 3, …) differences."""
    bins = ((away / 4 + 0.5) * BINS).long().clamp(0, BINS - 1)
    return (bins[:, 0] * BINS + bins[:, 1]) * BINS + bins[:, 2]
