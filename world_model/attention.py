"""Attention over the few tokens of a small latent on a CPU: some samples at a time, so that they stay in its cache.

Written out in torch's operations, the normalising and turning of queries and keys passes some twenty times over arrays
of many megabytes, forth and back; in `wide` that took longer than all sparse products of a training step. Here each
part of the batch passes through all of them before the next, in memory that is used again, and the gradient is written
out: what a step computes is the same up to rounding.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

PART_BYTES = 1 << 20
"""Of the queries and keys of a part in float32: a few such arrays fit a core's cache together."""
LEAST_PARTS = 4
"""Of fewer the arrays are so small that they stay in the cache as they are."""


def parts_pay(qkv: Tensor) -> bool:
    """Whether a training step is faster so, for (b, tokens, 3, k, head_dim).

    Not where a sample alone is too large; nor for tensors without numbers, whose steps are only counted (see
    ``training.plan``), and which hundreds of parts would keep busy for minutes.
    """
    real = type(qkv) is Tensor and qkv.device.type == "cpu"
    small = _bytes(qkv) <= PART_BYTES and len(qkv) // _samples(qkv) >= LEAST_PARTS
    return real and small and torch.is_grad_enabled() and qkv.requires_grad


def attend_in_parts(qkv: Tensor, gain: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
    """Softmax attention whose queries and keys are RMS-normalised and turned; differentiable once.

    Args:
        qkv: (b, tokens, 3, k, head_dim). gain: (2, head_dim), of queries and keys, in the dtype they are computed in.
        cos, sin: (tokens, head_dim), see ``rope.turns``. eps: of the RMS norms.

    Returns:
        (b, tokens, k, head_dim), in the dtype of ``qkv``.
    """
    mixed: Tensor = _Attention.apply(qkv, gain, cos, sin, eps)
    return mixed


def _samples(qkv: Tensor) -> int:
    """How many a part has."""
    return PART_BYTES // _bytes(qkv)


def _bytes(qkv: Tensor) -> int:
    """Of one sample's queries and keys in float32."""
    return 8 * qkv[0, :, 0].numel()


class _Attention(torch.autograd.Function):
    """Inside, k counts as the batch does: (2, b, k, tokens, head_dim) for queries and keys."""

    @staticmethod
    def forward(ctx: Any, qkv: Tensor, gain: Tensor, cos: Tensor, sin: Tensor, eps: float) -> Tensor:
        batch, tokens, _, heads, width = qkv.shape
        size = _samples(qkv)
        qk = qkv.new_empty(2, batch, heads, tokens, width)
        inverse = gain.new_empty(2, batch, heads, tokens, 1)
        weights = qkv.new_empty(batch, heads, tokens, tokens)
        out = qkv.new_empty(batch, tokens, heads, width)
        with torch.autocast(qkv.device.type, enabled=False):
            for at in _parts(batch, size):
                x = _heads_first(qkv[at, :, :2], gain.dtype)
                inverse[:, at] = (x.square().mean(-1, keepdim=True) + eps).rsqrt_()
                x.mul_(inverse[:, at]).mul_(gain[:, None, None, None])
                qk[:, at] = _turned(x, cos, sin)
                q, k, v = qk[0, at], qk[1, at], qkv[at, :, 2].transpose(1, 2)
                torch.softmax((q @ k.transpose(-1, -2)).mul_(width**-0.5), -1, out=weights[at])
                out[at] = (weights[at] @ v).transpose(1, 2)
        ctx.save_for_backward(qkv, gain, cos, sin, qk, inverse, weights)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        qkv, gain, cos, sin, qk, inverse, weights = ctx.saved_tensors
        width = qkv.shape[-1]
        dqkv, dgain = torch.empty_like(qkv), torch.zeros_like(gain)
        back = torch.cat([sin[:, width // 2 :], sin[:, : width // 2]], dim=-1)  # of the turn the other way
        for at in _parts(len(qkv), _samples(qkv)):
            g, v, p = grad[at].transpose(1, 2), qkv[at, :, 2].transpose(1, 2), weights[at]
            dqkv[at, :, 2] = (p.transpose(-1, -2) @ g).transpose(1, 2)
            dscores = torch.ops.aten._softmax_backward_data(g @ v.transpose(-1, -2), p, -1, p.dtype)
            dscores.mul_(width**-0.5)
            turned = torch.stack([dscores @ qk[1, at], dscores.transpose(-1, -2) @ qk[0, at]]).to(gain.dtype)
            dy = _turned(turned, cos, back)
            x = _heads_first(qkv[at, :, :2], gain.dtype).mul_(inverse[:, at])
            along = (dy * x).flatten(1, 3)  # (2, n, head_dim)
            dgain += along.sum(1)
            mean = (along @ gain[:, :, None]).view_as(inverse[:, at]).div_(-width)
            dx = dy.mul_(gain[:, None, None, None]).addcmul_(x, mean).mul_(inverse[:, at])
            dqkv[at, :, :2] = dx.permute(1, 3, 0, 2, 4)
        return dqkv, dgain, None, None, None


def _parts(batch: int, size: int) -> list[slice]:
    return [slice(first, first + size) for first in range(0, batch, size)]


def _heads_first(qk: Tensor, dtype: torch.dtype) -> Tensor:
    """A copy of (b, tokens, 2, k, head_dim) as (2, b, k, tokens, head_dim)."""
    view = qk.permute(2, 0, 3, 1, 4)
    return torch.empty(view.shape, dtype=dtype, device=qk.device).copy_(view)


def _turned(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """``rope.rotate`` without a copy of the rolled channels."""
    half = x.shape[-1] // 2
    out = x * cos
    out[..., :half].addcmul_(x[..., half:], sin[:, :half])
    out[..., half:].addcmul_(x[..., :half], sin[:, half:])
    return out
