"""Finite scalar quantization: a token is a few numbers, each rounded to one of a few levels.

Source: Mentzer et al. 2023 (arXiv 2309.15505), appendix A.1; Cosmos takes levels 8, 8, 8, 5, 5, 5 (arXiv 2501.03575).
There is no codebook to learn and none to collapse. A continuous tokenizer has no bottleneck but its channels.
"""

import math
from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn

COSMOS_LEVELS = (8, 8, 8, 5, 5, 5)
EPSILON = 1e-3
"""Share of the range left free, so that rounding never leaves the levels."""


EVEN = 512
"""Codes that stand for all, where tokens are to be used alike."""


@cache
def even_codes(levels: tuple[int, ...]) -> Tensor:
    """(n, c) numbers before rounding, spread evenly (Sobol's sequence) over all codes and within what each rounds."""
    counts = torch.tensor(levels, device="cpu")
    share = torch.quasirandom.SobolEngine(len(levels), scramble=True, seed=0).draw(EVEN)
    reach = (counts - 1) * (1 - EPSILON) / 2
    middle = torch.where(counts % 2 == 1, 0.0, -0.5)
    within = (share * counts - 0.5 - counts // 2).clamp(middle - reach, middle + reach)
    return within / (counts // 2)


class FSQ(nn.Module):
    """Latents to codes: of channel i one of ``levels[i]`` values from -1 up to at most 1, 0 among them.

    Gradients pass the rounding as if it were not there; the bounding before it is differentiated.
    """

    half_range: Tensor
    half_width: Tensor
    offset: Tensor
    shift: Tensor

    def __init__(self, levels: Sequence[int]) -> None:
        super().__init__()
        self.levels = tuple(levels)
        self.vocabulary = math.prod(levels)
        # Computed in double precision; not saved, for the configuration has them.
        counts = torch.tensor(self.levels, dtype=torch.float64, device="cpu")
        half_range = (counts - 1) * (1 - EPSILON) / 2
        offset = torch.where(counts % 2 == 1, 0.0, 0.5)  # an even number of levels lies askew around 0
        constants = {"half_range": half_range, "offset": offset, "shift": torch.tan(offset / half_range)}
        for name, value in (constants | {"half_width": counts // 2}).items():
            self.register_buffer(name, value.float().view(-1, 1, 1, 1), persistent=False)

    def bounded(self, z: Tensor) -> Tensor:
        """(b, c, t, h, w), any numbers, to what is rounded, in levels."""
        return torch.tanh(z + self.shift) * self.half_range - self.offset

    def unevenness(self, z: Tensor) -> Tensor:
        """How far what is about to be rounded is from using all codes alike; 0 where it does.

        The energy distance (Székely and Rizzo 2013, eq. 2) to numbers that do, in codes: it minds each channel and how
        channels go together, and has no scale to choose. Rounding alone has no reason to use what lies far out.
        """
        here = (self.bounded(z) / self.half_width).movedim(1, -1).flatten(0, -2)
        even = even_codes(self.levels).to(here)
        return 2 * torch.cdist(here, even).mean() - torch.cdist(here, here).mean() - torch.cdist(even, even).mean()

    def forward(self, z: Tensor) -> Tensor:
        """(b, c, t, h, w), any numbers, to codes of that shape."""
        bounded = self.bounded(z)
        return (bounded + (bounded.round() - bounded).detach()) / self.half_width

    def tokens(self, codes: Tensor) -> Tensor:
        """Codes (b, c, t, h, w), or numbers near them, to tokens, int64 (b, t, h, w); the first channel counts ones."""
        digits = (codes * self.half_width + self.half_width).round().long()
        found = torch.zeros_like(digits[:, 0])
        for channel in reversed(range(len(self.levels))):
            level = self.levels[channel]
            found = found * level + digits[:, channel].clamp(0, level - 1)
        return found

    def codes(self, tokens: Tensor) -> Tensor:
        """The inverse of :meth:`tokens`."""
        digits = []
        for level in self.levels:
            digits.append(tokens % level)
            tokens = tokens // level
        return torch.stack(digits, dim=1).to(self.half_width.dtype) / self.half_width - 1


def codebook_use(tokens: Tensor, vocabulary: int) -> dict[str, float]:
    """How much of a vocabulary some tokens use: how many codes, which share of all, and their perplexity.

    So many tokens can use no more codes than there are tokens, so their number stands beside these. The perplexity is
    the number of codes that, used alike, would tell as much.
    """
    counts = torch.bincount(tokens.flatten(), minlength=vocabulary).double()
    share = counts / counts.sum()
    used = int((counts > 0).sum())
    return {
        "tokens": float(tokens.numel()),
        "codes used": float(used),
        "share used": used / vocabulary,
        "perplexity": float(torch.special.entr(share).sum().exp()),
    }
