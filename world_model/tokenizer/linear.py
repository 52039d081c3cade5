"""A linear code beside the networks of a tokenizer: they add to what principal components give from the first step on.

Cosmos has no such path. Without it a small tokenizer spends its first thousand steps
on finding the mean colour of a patch. Axis letters: f numbers of a group, wavelet coefficients of the k frames and the
patch that one latent stands for.
"""

import torch
from torch import Tensor, nn

SPREAD = 0.8
"""Deviation of a component before a bottleneck: the hyperbolic tangent of it is about as often at one level as at
another."""
SAMPLES = 20_000
"""Groups that components are found of, at most."""


class LinearPath(nn.Module):
    """Wavelet coefficients (b, n, t, h, w) to latents (b, c, t', h', w') and back, each group of k x s x s by itself.

    Args:
        coefficients: n. channels: c. frames: k, of coefficients; the first stands alone. side: s.
    """

    def __init__(self, coefficients: int, channels: int, frames: int, side: int) -> None:
        super().__init__()
        self.shape = (coefficients, frames, side, side)
        size = coefficients * frames * side * side
        self.down, self.up = nn.Linear(size, channels), nn.Linear(channels, size)

    def encode(self, x: Tensor) -> Tensor:
        return self.down(self._groups(x)).movedim(-1, 1)

    def decode(self, z: Tensor) -> Tensor:
        groups = self.up(z.movedim(1, -1)).unflatten(-1, self.shape)  # (b, t', h', w', n, k, s, s)
        x = groups.permute(0, 4, 1, 5, 2, 6, 3, 7).flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return x[:, :, self.shape[1] - 1 :]

    def _groups(self, x: Tensor) -> Tensor:
        """(b, n, t, h, w) to (b, t', h', w', f); before the first frame it stands again, until a group is full."""
        _, k, s, _ = self.shape
        x = torch.cat([x[:, :, :1].expand(-1, -1, k - 1, -1, -1), x], dim=2)
        x = x.unflatten(4, (-1, s)).unflatten(3, (-1, s)).unflatten(2, (-1, k))  # (b, n, t', k, h', s, w', s)
        return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4)

    @torch.no_grad()
    def fit(self, x: Tensor, bottleneck: nn.Module) -> None:
        """Components of these coefficients with the greatest variance, and the least squares way back.

        The way back starts from what the bottleneck leaves of the components.
        """
        groups = self._groups(x).flatten(0, 3)
        groups = groups[:: -(-len(groups) // SAMPLES)].double()
        mean = groups.mean(0)
        _, sizes, basis = torch.linalg.svd(groups - mean, full_matrices=False)
        count = min(self.down.out_features, len(sizes))
        deviation = (sizes[:count] / len(groups) ** 0.5).clamp_min(1e-6)
        weight = torch.zeros_like(self.down.weight, dtype=torch.double)
        weight[:count] = basis[:count] * (SPREAD / deviation)[:, None]
        self.down.weight.copy_(weight)
        self.down.bias.copy_(-weight @ mean)
        z = self.down(groups.to(self.down.weight.dtype))
        z = bottleneck(z.T[None, :, :, None, None])[0, :, :, 0, 0].T.double()  # (groups, c)
        solved = torch.linalg.lstsq(torch.cat([z, torch.ones_like(z[:, :1])], dim=1), groups, driver="gelsd").solution
        self.up.weight.copy_(solved[:-1].T)
        self.up.bias.copy_(solved[-1])
