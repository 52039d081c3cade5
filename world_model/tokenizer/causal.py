"""Blocks that never look ahead: factorised convolutions and attention (Cosmos §4, arXiv 2501.03575).

All take and return (b, c, t, h, w). Space and time are separate: a k×k convolution or attention within each frame,
then a convolution or attention over time at each place, padded on the left with the first frame.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def per_frame(x: Tensor) -> Tensor:
    """(b, c, t, h, w) to (b t, c, h, w)."""
    return x.transpose(1, 2).flatten(0, 1)


def per_video(x: Tensor, batch: int) -> Tensor:
    """(b t, c, h, w) back to (b, c, t, h, w)."""
    return x.unflatten(0, (batch, -1)).transpose(1, 2)


class SpatialConv(nn.Module):
    """A k×k convolution of each frame."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2)

    def forward(self, x: Tensor) -> Tensor:
        return per_video(self.conv(per_frame(x)), x.shape[0])


class TemporalConv(nn.Module):
    """A convolution over time at each place; the output at t sees inputs up to t."""

    def __init__(self, channels: int, kernel: int = 3, stride: int = 1) -> None:
        super().__init__()
        self.pad = kernel - 1
        self.conv = nn.Conv1d(channels, channels, kernel, stride)
        with torch.no_grad():  # starts as the identity, so that a video model starts as an image model
            nn.init.zeros_(self.conv.get_parameter("bias"))
            nn.init.dirac_(self.conv.weight)
            self.conv.weight.copy_(self.conv.weight.roll(kernel - 1 - kernel // 2, dims=2))

    def forward(self, x: Tensor) -> Tensor:
        b, c, _, h, w = x.shape
        x = torch.cat([x[:, :, :1].expand(-1, -1, self.pad, -1, -1), x], dim=2)
        x = self.conv(x.permute(0, 3, 4, 1, 2).flatten(0, 2))  # (b h w, c, t)
        return x.view(b, h, w, c, -1).permute(0, 3, 4, 1, 2)


class CausalConv(nn.Module):
    """Spatial, then (in a video model) temporal convolution."""

    def __init__(self, inputs: int, outputs: int, temporal: bool) -> None:
        super().__init__()
        self.space = SpatialConv(inputs, outputs)
        self.time = TemporalConv(outputs) if temporal else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.time(self.space(x))


class FrameNorm(nn.Module):
    """GroupNorm with one group, on each frame alone: statistics over time would look ahead."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return per_video(self.norm(per_frame(x)), x.shape[0])


class ResBlock(nn.Module):
    """Two normalised causal convolutions around a skip."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.channels = channels
        self.norm1, self.norm2 = FrameNorm(channels), FrameNorm(channels)
        self.conv1 = CausalConv(channels, channels, temporal)
        self.conv2 = CausalConv(channels, channels, temporal)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(h)))


class CausalAttention(nn.Module):
    """Single-head attention: within each frame, then (in a video model) over time up to the present."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.norm = FrameNorm(channels)
        self.space_qkv, self.space_out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)
        self.temporal = temporal
        if temporal:
            self.time_norm = FrameNorm(channels)
            self.time_qkv, self.time_out = nn.Linear(channels, 3 * channels), nn.Linear(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        b, c, t, h, w = x.shape
        tokens = self.norm(x).permute(0, 2, 3, 4, 1).reshape(b * t, h * w, c)
        q, k, v = self.space_qkv(tokens).chunk(3, dim=-1)
        out = self.space_out(F.scaled_dot_product_attention(q, k, v))
        x = x + out.view(b, t, h, w, c).permute(0, 4, 1, 2, 3)
        if not self.temporal:
            return x
        tokens = self.time_norm(x).permute(0, 3, 4, 2, 1).reshape(b * h * w, t, c)
        q, k, v = self.time_qkv(tokens).chunk(3, dim=-1)
        out = self.time_out(F.scaled_dot_product_attention(q, k, v, is_causal=True))
        return x + out.view(b, h, w, t, c).permute(0, 4, 3, 1, 2)
