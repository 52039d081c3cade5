"""The video VAE of Predict2 and 2.5 (Wan 2.1, arXiv 2503.20314), as ``AutoencoderKLWan`` of diffusers.

1 + k T frames become 1 + T latents, which pass through all layers one after the other: each layer keeps what it needs
of the past, so that memory does not grow with a video. The first frame is halved in time nowhere and doubled nowhere.
Parameters are called as in diffusers. All layers take and return (b, c, t, h, w).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from procosm.world_model.errors import ProcosmError
from procosm.world_model.pretrained.config import Count, check_frames
from procosm.world_model.pretrained.convolution import convolve
from procosm.world_model.tokenizer.causal import per_frame, per_video

Numbers = Annotated[tuple[float, ...], Field(min_length=1, max_length=4096)]
MEAN: tuple[float, ...] = (-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508)
MEAN += (0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921)
STD: tuple[float, ...] = (2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743)
STD += (3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160)


@dataclass(frozen=True)
class WanVAEConfig:
    """``AutoencoderKLWan`` of diffusers; Wan 2.2, which has patches and other shortcuts, is refused."""

    base_dim: Count = 96
    decoder_base_dim: Count | None = None
    z_dim: Count = 16
    dim_mult: Annotated[tuple[Count, ...], Field(min_length=1, max_length=8)] = (1, 2, 4, 4)
    num_res_blocks: Annotated[int, Field(ge=1, le=32)] = 2
    attn_scales: tuple[()] = ()
    temperal_downsample: tuple[bool, ...] = (False, True, True)
    """(sic) For each halving of space whether time is halved, too."""
    dropout: Annotated[float, Field(ge=0, le=0)] = 0.0
    latents_mean: Numbers = MEAN
    latents_std: Numbers = STD
    is_residual: Literal[False] = False
    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    patch_size: None = None
    scale_factor_temporal: int | None = 4
    scale_factor_spatial: int | None = 8

    @property
    def frames_per_latent(self) -> int:
        """Of each latent but the first, which is one frame."""
        return 2 ** sum(self.temperal_downsample)

    @property
    def pixels_per_latent(self) -> int:
        """Along each side."""
        return 2 ** len(self.temperal_downsample)

    def __post_init__(self) -> None:
        if len(self.temperal_downsample) != len(self.dim_mult) - 1:
            raise ProcosmError(f"temperal_downsample must have {len(self.dim_mult) - 1} values, one for each halving")
        if not len(self.latents_mean) == len(self.latents_std) == self.z_dim:
            raise ProcosmError(f"latents_mean and latents_std must have z_dim = {self.z_dim} values")


class Past(dict[nn.Module, Tensor]):
    """The last frames that layers have seen of a video, whose frames come in parts."""

    def joined(self, layer: nn.Module, x: Tensor, count: int) -> Tensor:
        """(b, c, t, h, w) with ``count`` frames before it: those seen last, and zeros before the first."""
        before = self.get(layer)
        x = torch.cat([x.new_zeros(*x.shape[:2], count, *x.shape[3:]) if before is None else before, x], dim=2)
        self[layer] = x[:, :, x.shape[2] - count :]
        return x


class CausalConv3d(nn.Conv3d):
    """A convolution of odd size whose output at t sees inputs up to t; around the video is zero."""

    def __init__(self, inputs: int, outputs: int, kernel: tuple[int, int, int]) -> None:
        super().__init__(inputs, outputs, kernel, padding=(0, kernel[1] // 2, kernel[2] // 2))
        self.before = kernel[0] - 1

    def forward(self, x: Tensor, past: Past | None = None) -> Tensor:
        return convolve(self, x if past is None else past.joined(self, x, self.before))


def convolution(inputs: int, outputs: int) -> CausalConv3d:
    return CausalConv3d(inputs, outputs, (3, 3, 3))


class ChannelNorm(nn.Module):
    """Root mean square norm over channels, taken in float32 at least."""

    def __init__(self, channels: int, axes: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels, *[1] * axes))

    def forward(self, x: Tensor) -> Tensor:
        exact = x.float() if x.element_size() < 4 else x
        return F.normalize(exact, dim=1).to(x.dtype) * len(self.gamma) ** 0.5 * self.gamma


class Residual(nn.Module):
    """Two normalised convolutions around a skip."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = ChannelNorm(inputs, 3), convolution(inputs, outputs)
        self.norm2, self.conv2 = ChannelNorm(outputs, 3), convolution(outputs, outputs)
        self.conv_shortcut = CausalConv3d(inputs, outputs, (1, 1, 1)) if inputs != outputs else nn.Identity()

    def forward(self, x: Tensor, past: Past) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)), past)
        return self.conv2(F.silu(self.norm2(h)), past) + self.conv_shortcut(x)


class Attention(nn.Module):
    """Single-head attention within each frame, with a skip."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = ChannelNorm(channels, 2)
        self.to_qkv, self.proj = nn.Conv2d(channels, 3 * channels, 1), nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        frames = per_frame(x)
        qkv = self.to_qkv(self.norm(frames)).flatten(2).transpose(1, 2)[:, None].contiguous()  # (b t, 1, h w, 3 c)
        mixed = F.scaled_dot_product_attention(*qkv.chunk(3, dim=-1))[:, 0]
        return per_video(self.proj(mixed.transpose(1, 2).reshape(frames.shape)), len(x)) + x


class Down(nn.Module):
    """Half the space, and with ``temporal`` half the time of all frames but the first."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(channels, channels, 3, stride=2))
        if temporal:
            self.time_conv = nn.Conv3d(channels, channels, (3, 1, 1), stride=(2, 1, 1))
        self.temporal = temporal

    def forward(self, x: Tensor, past: Past) -> Tensor:
        x, first = per_video(self.resample(per_frame(x)), len(x)), self not in past
        if not self.temporal:
            return x
        whole = past.joined(self, x, 1)
        return x if first else convolve(self.time_conv, whole)


class Up(nn.Module):
    """Twice the space and half the channels, and with ``temporal`` twice the time of all frames but the first."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.resample = nn.Sequential(nn.Identity(), nn.Conv2d(channels, channels // 2, 3, padding=1))
        if temporal:
            self.time_conv = CausalConv3d(channels, 2 * channels, (3, 1, 1))
        self.temporal = temporal

    def forward(self, x: Tensor, past: Past) -> Tensor:
        if self.temporal and self in past:
            early, late = self.time_conv(x, past).chunk(2, dim=1)
            x = torch.stack([early, late], dim=3).flatten(2, 3)
        past[self] = x[:, :, :0]  # the first frame has passed; those after it see zeros in its place
        frames = per_frame(x).float()  # also of float64, as in the published code
        frames = frames.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3).to(x.dtype)
        return per_video(self.resample(frames), len(x))


class Middle(nn.Module):
    """A residual block, attention, and another."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.attentions = nn.ModuleList([Attention(channels)])
        self.resnets = nn.ModuleList(Residual(channels, channels) for _ in range(2))

    def forward(self, x: Tensor, past: Past) -> Tensor:
        return self.resnets[1](self.attentions[0](self.resnets[0](x, past)), past)


class Encoder(nn.Module):
    """Frames in [-1, 1] to means and log-variances of latents."""

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        widths = [config.base_dim * by for by in (1, *config.dim_mult)]
        self.conv_in, self.down_blocks = convolution(3, widths[0]), nn.ModuleList()
        for i, (inner, outer) in enumerate(pairwise(widths)):
            for j in range(config.num_res_blocks):
                self.down_blocks.append(Residual(outer if j else inner, outer))
            if i < len(config.temperal_downsample):
                self.down_blocks.append(Down(outer, config.temperal_downsample[i]))
        self.mid_block = Middle(widths[-1])
        self.norm_out, self.conv_out = ChannelNorm(widths[-1], 3), convolution(widths[-1], 2 * config.z_dim)

    def forward(self, x: Tensor, past: Past) -> Tensor:
        x = self.conv_in(x, past)
        for layer in self.down_blocks:
            x = layer(x, past)
        return self.conv_out(F.silu(self.norm_out(self.mid_block(x, past))), past)


class UpBlock(nn.Module):
    """Residual blocks, then ``up`` where there is one."""

    def __init__(self, inner: int, outer: int, count: int, up: Up | None) -> None:
        super().__init__()
        self.resnets = nn.ModuleList(Residual(outer if j else inner, outer) for j in range(count))
        self.upsamplers = None if up is None else nn.ModuleList([up])

    def forward(self, x: Tensor, past: Past) -> Tensor:
        for residual in self.resnets:
            x = residual(x, past)
        return x if self.upsamplers is None else self.upsamplers[0](x, past)


class Decoder(nn.Module):
    """Latents to frames."""

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        base, many = config.decoder_base_dim or config.base_dim, config.num_res_blocks + 1
        widths = [base * by for by in (config.dim_mult[-1], *config.dim_mult[::-1])]
        doubled = [*config.temperal_downsample[::-1], None]
        self.conv_in, self.mid_block = convolution(config.z_dim, widths[0]), Middle(widths[0])
        self.up_blocks = nn.ModuleList()
        for i, (inner, outer) in enumerate(pairwise(widths)):
            time = doubled[i]
            self.up_blocks.append(
                UpBlock(inner // 2 if i else inner, outer, many, None if time is None else Up(outer, time))
            )
        self.norm_out, self.conv_out = ChannelNorm(widths[-1], 3), convolution(widths[-1], 3)

    def forward(self, z: Tensor, past: Past) -> Tensor:
        x = self.mid_block(self.conv_in(z, past), past)
        for block in self.up_blocks:
            x = block(x, past)
        return self.conv_out(F.silu(self.norm_out(x)), past)


class WanVAE(nn.Module):
    """1 + k T frames to 1 + T latents and back."""

    def __init__(self, config: WanVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = CausalConv3d(2 * config.z_dim, 2 * config.z_dim, (1, 1, 1))
        self.post_quant_conv = CausalConv3d(config.z_dim, config.z_dim, (1, 1, 1))

    def encode(self, x: Tensor) -> Tensor:
        """(b, 3, 1 + k T, H, W) in [-1, 1] to (b, c, 1 + T, h, w), the means.

        Raises:
            ProcosmError: another number of frames, or sides that cannot be halved so often.
        """
        check_frames(x, self.config)
        k, past = self.config.frames_per_latent, Past()
        parts = x.split([1] + [k] * ((x.shape[2] - 1) // k), dim=2)
        coded = torch.cat([self.encoder(part, past) for part in parts], dim=2)
        return self.quant_conv(coded).chunk(2, dim=1)[0]

    def decode(self, z: Tensor) -> Tensor:
        """The other way round; values within [-1, 1]."""
        past = Past()
        parts = self.post_quant_conv(z).split(1, dim=2)
        return torch.cat([self.decoder(part, past) for part in parts], dim=2).clamp(-1, 1)
