"""Rotary positions on three axes (time, height, width), as in Cosmos §5.1, and YaRN, which stretches one of them.

A head's channels are shared out: a third (rounded down to even) each for height and width, the rest for time. Each
pair of channels turns by position times frequency, so that attention sees only relative positions.
"""

import math

import torch
from torch import Tensor


def axis_dims(head_dim: int) -> tuple[int, int, int]:
    """How many channels of a head turn with time, height and width."""
    space = head_dim // 6 * 2
    return head_dim - 2 * space, space, space


def frequencies(dim: int, theta: float = 10000.0) -> Tensor:
    """(dim / 2,) radians by which the channel pairs of an axis turn from one position to the next."""
    return theta ** (-torch.arange(0, dim, 2, dtype=torch.float32) / dim)


def yarn(frequency: Tensor, scale: float, length: float, fast: float = 32.0, slow: float = 1.0) -> Tensor:
    """Frequencies for ``scale`` times the length that they were trained with (YaRN, arXiv 2309.00071, §3.2).

    Pairs that turn more than ``fast`` times within ``length`` positions stay as they are, those that turn less than
    ``slow`` times are slowed down by ``scale``, and between them it goes from one to the other in a straight line.
    """
    kept = ((length * frequency / (2 * math.pi) - slow) / (fast - slow)).clamp(0, 1)
    return frequency * (kept + (1 - kept) / scale)


def yarn_temperature(scale: float) -> float:
    """What attention's logits are multiplied by, at ``scale`` times the length (the same paper, §3.3)."""
    return (0.1 * math.log(scale) + 1) ** 2


def angles(frames: int, height: int, width: int, head_dim: int, theta: float = 10000.0) -> Tensor:
    """(t h w, head_dim / 2) rotation angles of every token, rows first within a frame, frames in order."""

    def axis(n: int, dim: int) -> Tensor:
        return torch.arange(n)[:, None] * frequencies(dim, theta)

    dim_t, dim_h, dim_w = axis_dims(head_dim)
    return joined(axis(frames, dim_t), axis(height, dim_h), axis(width, dim_w))


def scaled_angles(
    size: tuple[int, int, int],
    head_dim: int,
    scale: tuple[float, float, float],
    fps: float | None = None,
    device: torch.device | None = None,
) -> Tensor:
    """The same for other lengths and sizes than a model was trained on first, as published models have it.

    Args:
        size: (t, h, w) tokens.
        head_dim: at least 12, so that each axis turns in more than one frequency.
        scale: of each axis, by the NTK rule: theta grows so that the slowest frequency slows by as much.
        fps: frames per second, which place tokens in time: one frame of 24 per second is a unit; None counts tokens.
    """

    def axis(positions: Tensor, dim: int, by: float) -> Tensor:
        theta = 10000.0 * by ** (dim / (dim - 2))
        return positions[:, None] * (1 / theta ** (torch.arange(0, dim, 2, device=device, dtype=torch.float32) / dim))

    t, h, w = (torch.arange(n, device=device, dtype=torch.float32) for n in size)
    if fps is not None:
        t = t / fps * 24
    return joined(*(axis(*each) for each in zip((t, h, w), axis_dims(head_dim), scale, strict=True)))


def joined(t: Tensor, h: Tensor, w: Tensor) -> Tensor:
    """(t h w, ·) angles of every token, given those of each axis, (t, ·), (h, ·) and (w, ·)."""
    size = (len(t), len(h), len(w))
    t = t[:, None, None].expand(*size, -1)
    h = h[None, :, None].expand(*size, -1)
    w = w[None, None, :].expand(*size, -1)
    return torch.cat([t, h, w], dim=-1).flatten(0, 2)


def turns(angle: Tensor) -> tuple[Tensor, Tensor]:
    """What :func:`rotate` takes, each (tokens, head_dim), from angles (tokens, head_dim / 2)."""
    cos, sin = angle.cos(), angle.sin()
    return torch.cat([cos, cos], dim=-1), torch.cat([-sin, sin], dim=-1)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the channel pairs (i, i + head_dim/2) of (…, head_dim) by the angles in ``cos`` and ``sin``, see `turns`."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin)
