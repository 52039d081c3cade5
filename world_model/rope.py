"""Rotary positions on three axes (time, height, width), as in Cosmos §5.1.

A head's channels are shared out: a third (rounded down to even) each for height and width, the rest for time. Each
pair of channels turns by position times frequency, so that attention sees only relative positions.
"""

import torch
from torch import Tensor


def angles(frames: int, height: int, width: int, head_dim: int, theta: float = 10000.0) -> Tensor:
    """(t h w, head_dim / 2) rotation angles of every token, rows first within a frame, frames in order."""
    dim_h = dim_w = head_dim // 6 * 2
    dim_t = head_dim - dim_h - dim_w

    def axis(n: int, dim: int) -> Tensor:
        frequency = theta ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)
        return torch.arange(n)[:, None] * frequency

    t = axis(frames, dim_t)[:, None, None].expand(frames, height, width, -1)
    h = axis(height, dim_h)[None, :, None].expand(frames, height, width, -1)
    w = axis(width, dim_w)[None, None, :].expand(frames, height, width, -1)
    return torch.cat([t, h, w], dim=-1).flatten(0, 2)


def turns(angle: Tensor) -> tuple[Tensor, Tensor]:
    """What :func:`rotate` takes, each (tokens, head_dim), from angles (tokens, head_dim / 2)."""
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the channel pairs (i, i + head_dim/2) of (…, head_dim) by the angles in ``cos`` and ``sin``, see `turns`."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
