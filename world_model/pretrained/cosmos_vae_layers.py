"""What the published continuous video tokenizer is made of: causal convolutions and attention, space and time apart.

Parameters are called as in diffusers. All layers take and return (b, c, t, h, w).
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.world_model.pretrained.convolution import convolve
from procosm.world_model.tokenizer.causal import FrameNorm


class CausalConv3d(nn.Conv3d):
    """A convolution whose output at t sees inputs up to t; before the first frame stands the first frame."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int], stride: int = 1, pad: int = 0) -> None:
        """``stride``: along the axes that the kernel extends over. ``pad``: zeros around each frame."""
        t, h, w = (stride if k > 1 else 1 for k in kernel)
        super().__init__(inputs, outputs, kernel, (t, h, w), (0, pad, pad))
        self.before = kernel[0] - t

    def forward(self, x: Tensor) -> Tensor:
        if self.before:
            x = torch.cat([x[:, :, :1].expand(-1, -1, self.before, -1, -1), x], dim=2)
        return convolve(self, x)


def pointwise(inputs: int, outputs: int) -> CausalConv3d:
    return CausalConv3d(inputs, outputs, (1, 1, 1))


class Conv(nn.Module):
    """Over each frame, then over time."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv_s = CausalConv3d(inputs, outputs, (1, 3, 3), pad=1)
        self.conv_t = CausalConv3d(outputs, outputs, (3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv_t(self.conv_s(x))


class Residual(nn.Module):
    """Two normalised convolutions around a skip."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = FrameNorm(inputs), Conv(inputs, outputs)
        self.norm2, self.conv2 = FrameNorm(outputs), Conv(outputs, outputs)
        self.conv_shortcut = pointwise(inputs, outputs) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        return self.conv2(F.silu(self.norm2(h))) + self.conv_shortcut(x)


class Attention(nn.Module):
    """Single-head attention with a skip: within each frame, or over time at each place up to the present."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.temporal, self.norm = temporal, FrameNorm(channels)
        self.to_q, self.to_k, self.to_v = (pointwise(channels, channels) for _ in range(3))
        self.to_out = nn.ModuleList([pointwise(channels, channels)])

    def forward(self, x: Tensor) -> Tensor:
        b, _, t, h, w = x.shape
        tokens = self.norm(x).movedim(1, -1)  # (b, t, h, w, c)
        tokens = tokens.permute(0, 2, 3, 1, 4).flatten(0, 2) if self.temporal else tokens.flatten(0, 1).flatten(1, 2)
        q, k, v = (_linear(layer, tokens)[:, None] for layer in (self.to_q, self.to_k, self.to_v))  # one head
        out = _linear(self.to_out[0], F.scaled_dot_product_attention(q, k, v, is_causal=self.temporal)[:, 0])
        out = (
            out.view(b, h, w, t, -1).permute(0, 4, 3, 1, 2)
            if self.temporal
            else out.view(b, t, h, w, -1).movedim(-1, 1)
        )
        return x + out


def _linear(layer: nn.Module, tokens: Tensor) -> Tensor:
    """A pointwise convolution of channels that stand last."""
    weight = layer.get_parameter("weight")
    return F.linear(tokens, weight.flatten(1), layer.get_parameter("bias"))


class Block(nn.Module):
    """Residual blocks, each with attention where ``attend``, then a ``resampler`` (called ``name``) if there is one."""

    def __init__(self, widths: list[int], attend: bool, name: str = "", resampler: nn.Module | None = None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Residual(*each) for each in pairwise(widths))
        self.attentions = nn.ModuleList(Attention(n, False) for n in widths[1:] if attend)
        self.temp_attentions = nn.ModuleList(Attention(n, True) for n in widths[1:] if attend)
        self.last = name
        if resampler is not None:
            self.add_module(name, nn.ModuleList([resampler]))

    def forward(self, x: Tensor) -> Tensor:
        for i, residual in enumerate(self.resnets):
            x = residual(x)
            if len(self.attentions):
                x = self.temp_attentions[i](self.attentions[i](x))
        return getattr(self, self.last)[0](x) if self.last else x


class Middle(nn.Module):
    """A residual block, attention, and another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Residual(channels, channels) for _ in range(2))
        self.attentions = nn.ModuleList([Attention(channels, False)])
        self.temp_attentions = nn.ModuleList([Attention(channels, True)])

    def forward(self, x: Tensor) -> Tensor:
        return self.resnets[1](self.temp_attentions[0](self.attentions[0](self.resnets[0](x))))


class Down(nn.Module):
    """Half the space, half the time, or both: a strided convolution beside a mean."""

    def __init__(self, channels: int, space: bool, time: bool) -> None:
        super().__init__()
        self.conv1 = CausalConv3d(channels, channels, (1, 3, 3), stride=2) if space else None
        self.conv2 = CausalConv3d(channels, channels, (3, 1, 1), stride=2) if time else None
        self.conv3 = pointwise(channels, channels) if space or time else None

    def forward(self, x: Tensor) -> Tensor:
        if self.conv1 is not None:
            x = F.pad(x, (0, 1, 0, 1))
            x = self.conv1(x) + F.avg_pool3d(x, (1, 2, 2))
        if self.conv2 is not None:
            x = torch.cat([x[:, :, :1], x], dim=2)
            x = self.conv2(x) + F.avg_pool3d(x, (2, 1, 1))
        return x if self.conv3 is None else self.conv3(x)


class Up(nn.Module):
    """Twice the time, twice the space, or both: values repeated, then a convolution with a skip."""

    def __init__(self, channels: int, space: bool, time: bool) -> None:
        super().__init__()
        self.conv1 = CausalConv3d(channels, channels, (3, 1, 1)) if time else None
        self.conv2 = CausalConv3d(channels, channels, (1, 3, 3), pad=1) if space else None
        self.conv3 = pointwise(channels, channels) if space or time else None

    def forward(self, x: Tensor) -> Tensor:
        if self.conv1 is not None:
            x = torch.cat([x[:, :, :1], x[:, :, 1:].repeat_interleave(2, dim=2)], dim=2)  # the first stands alone
            x = self.conv1(x) + x
        if self.conv2 is not None:
            x = x.repeat_interleave(2, dim=3).repeat_interleave(2, dim=4)
            x = self.conv2(x) + x
        return x if self.conv3 is None else self.conv3(x)
