"""Haar wavelets: frames to patches of coefficients and exactly back (Cosmos §4, arXiv 2501.03575).

One level splits an axis into sums and differences of neighbours, divided by the square root of 2, so the map is
orthonormal: it keeps energy and its inverse is its transpose. Time is padded on the left with copies of the first
frame, so that the first frame stands alone and no coefficient sees a later frame than its own group.
"""

import torch
from torch import Tensor

_HALF = 0.5**0.5


def split(x: Tensor, axis: int, scale: float = _HALF) -> Tensor:
    """(b, c, …, 2n, …) to n along ``axis`` and twice the channels: sums first, differences after, times ``scale``."""
    even, odd = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
    return torch.cat([(even + odd) * scale, (even - odd) * scale], dim=1)


def merge(x: Tensor, axis: int, scale: float = _HALF) -> Tensor:
    """The inverse of :func:`split` by ``0.5 / scale``."""
    low, high = x.chunk(2, dim=1)
    return torch.stack([(low + high) * scale, (low - high) * scale], dim=axis + 1).flatten(axis, axis + 1)


def haar(x: Tensor, levels: int, temporal: bool) -> Tensor:
    """Wavelet patches of a video.

    Args:
        x: (b, c, t, h, w); h and w are multiples of ``2**levels``. With ``temporal``, t is ``1 + n * 2**levels``.
        levels: halvings of each axis.
        temporal: also halve time, causally.

    Returns:
        (b, c * 4**levels, t, h / 2**levels, w / 2**levels), or with ``temporal``
        (b, c * 8**levels, 1 + n, h / 2**levels, w / 2**levels).
    """
    if temporal:
        x = torch.cat([x[:, :, :1].expand(-1, -1, 2**levels - 1, -1, -1), x], dim=2)
    for _ in range(levels):
        for axis in (2, 3, 4) if temporal else (3, 4):
            x = split(x, axis)
    return x


def inverse_haar(x: Tensor, levels: int, temporal: bool) -> Tensor:
    """The frames whose :func:`haar` coefficients are ``x``; shapes as there, the other way round."""
    for _ in range(levels):
        for axis in (4, 3, 2) if temporal else (4, 3):
            x = merge(x, axis)
    return x[:, :, 2**levels - 1 :] if temporal else x
