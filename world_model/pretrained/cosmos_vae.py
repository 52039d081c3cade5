"""NVIDIA's published continuous video tokenizer (Cosmos §4, arXiv 2501.03575), as ``AutoencoderKLCosmos`` of diffusers.

1 + k T frames become 1 + T latents. Haar wavelets, factorised causal convolutions and attention; no latent sees a later
frame. Parameters are called as in diffusers.
"""

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from procosm.world_model.errors import ProcosmError
from procosm.world_model.pretrained.config import Count, check_frames
from procosm.world_model.pretrained.cosmos_vae_layers import Block, Conv, Down, Middle, Up, pointwise
from procosm.world_model.tokenizer.causal import FrameNorm
from procosm.world_model.tokenizer.wavelet import merge, split

Widths = Annotated[tuple[Count, ...], Field(min_length=3, max_length=8)]
Power = Annotated[int, Field(ge=1, le=16)]
Statistics = Annotated[tuple[float, ...], Field(min_length=1, max_length=2**16)] | None
HAAR = torch.tensor(0.5).sqrt().item()
"""What the published code divides sums and differences by the inverse of: the root of a half, in float32."""


@dataclass(frozen=True)
class CosmosVAEConfig:
    """``AutoencoderKLCosmos`` of diffusers; the defaults are CV8x8x8's, but for the statistics of its latents."""

    in_channels: Literal[3] = 3
    out_channels: Literal[3] = 3
    latent_channels: Count = 16
    encoder_block_out_channels: Widths = (128, 256, 512, 512)
    decode_block_out_channels: Widths = (256, 512, 512, 512)
    attention_resolutions: tuple[Count, ...] = (32,)
    """Sides of a frame, of ``resolution`` before, at which blocks attend."""
    resolution: Count = 1024
    num_layers: Annotated[int, Field(ge=1, le=32)] = 2
    patch_size: Power = 4
    patch_type: Literal["haar"] = "haar"
    scaling_factor: Annotated[float, Field(ge=1, le=1)] = 1.0
    spatial_compression_ratio: Power = 8
    temporal_compression_ratio: Power = 8
    latents_mean: Statistics = None
    latents_std: Statistics = None
    """Of each channel, or of each channel at each latent frame."""

    def __post_init__(self) -> None:
        powers = (self.patch_size, self.spatial_compression_ratio, self.temporal_compression_ratio)
        if any(n.bit_count() != 1 for n in powers) or min(powers) < self.patch_size:
            raise ProcosmError(
                f"patch_size {powers[0]}, spatial_compression_ratio {powers[1]} and temporal_compression_ratio "
                f"{powers[2]} must be powers of 2, and no ratio less than the patch"
            )

    @property
    def frames_per_latent(self) -> int:
        """Of each latent but the first, which is one frame."""
        return self.temporal_compression_ratio

    @property
    def pixels_per_latent(self) -> int:
        """Along each side."""
        return self.spatial_compression_ratio

    @property
    def levels(self) -> int:
        """Wavelet halvings."""
        return int(math.log2(self.patch_size))

    @property
    def halvings(self) -> tuple[int, int]:
        """Of space and of time, after the wavelets."""
        ratios = (self.spatial_compression_ratio, self.temporal_compression_ratio)
        return int(math.log2(ratios[0])) - self.levels, int(math.log2(ratios[1])) - self.levels


class Encoder(nn.Module):
    """Frames in [-1, 1] to latents."""

    def __init__(self, config: CosmosVAEConfig) -> None:
        super().__init__()
        self.levels, widths, side = (
            config.levels,
            config.encoder_block_out_channels,
            config.resolution // config.patch_size,
        )
        space, time = config.halvings
        self.conv_in = Conv(3 * config.patch_size**3, widths[0])
        self.down_blocks = nn.ModuleList()
        for i, (inner, outer) in enumerate(pairwise(widths)):
            layers, attend = [inner] + [outer] * config.num_layers, side in config.attention_resolutions
            if i == len(widths) - 2:
                self.down_blocks.append(Block(layers, attend))
            else:
                self.down_blocks.append(Block(layers, attend, "downsamplers", Down(outer, i < space, i < time)))
                side //= 2
        self.mid_block = Middle(widths[-1])
        self.norm_out, self.conv_out = FrameNorm(widths[-1]), Conv(widths[-1], config.latent_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv_in(wavelets(x, self.levels))
        for block in self.down_blocks:
            x = block(x)
        return self.conv_out(F.silu(self.norm_out(self.mid_block(x))))


class Decoder(nn.Module):
    """Latents to frames."""

    def __init__(self, config: CosmosVAEConfig) -> None:
        super().__init__()
        self.levels, widths = config.levels, config.decode_block_out_channels[::-1]
        side = config.resolution // config.patch_size >> (len(widths) - 2)
        space, time = config.halvings
        self.conv_in, self.mid_block = Conv(config.latent_channels, widths[0]), Middle(widths[0])
        self.up_blocks = nn.ModuleList()
        for i, (inner, outer) in enumerate(pairwise(widths)):
            layers, attend = [inner] + [outer] * (config.num_layers + 1), side in config.attention_resolutions
            if i == len(widths) - 2:
                self.up_blocks.append(Block(layers, attend))
            else:
                later = 0 < i < time + 1
                up = Up(outer, later or (i < space and space > time), later)
                self.up_blocks.append(Block(layers, attend, "upsamplers", up))
                side *= 2
        self.norm_out, self.conv_out = FrameNorm(widths[-1]), Conv(widths[-1], 3 * config.patch_size**3)

    def forward(self, z: Tensor) -> Tensor:
        x = self.mid_block(self.conv_in(z))
        for block in self.up_blocks:
            x = block(x)
        return inverse_wavelets(self.conv_out(F.silu(self.norm_out(x))), self.levels)


class CosmosVAE(nn.Module):
    """1 + k T frames to 1 + T latents and back."""

    def __init__(self, config: CosmosVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        self.quant_conv = pointwise(config.latent_channels, config.latent_channels)
        self.post_quant_conv = pointwise(config.latent_channels, config.latent_channels)

    def encode(self, x: Tensor) -> Tensor:
        """(b, 3, 1 + k T, H, W) in [-1, 1] to (b, c, 1 + T, h, w).

        Raises:
            ProcosmError: another number of frames, or sides that cannot be halved so often.
        """
        check_frames(x, self.config)
        return self.quant_conv(self.encoder(x))

    def decode(self, z: Tensor) -> Tensor:
        """The other way round."""
        return self.decoder(self.post_quant_conv(z))


def wavelets(x: Tensor, levels: int) -> Tensor:
    """Haar coefficients, space and time; sums and differences of time stand outermost, and means keep their size."""
    x = torch.cat([x[:, :, :1].expand(-1, -1, 2**levels - 1, -1, -1), x], dim=2)
    for _ in range(levels):
        for axis in (4, 3, 2):
            x = split(x, axis, HAAR / 2**0.5)
    return x


def inverse_wavelets(x: Tensor, levels: int) -> Tensor:
    """The frames of :func:`wavelets`."""
    for _ in range(levels):
        for axis in (2, 3, 4):
            x = merge(x, axis, HAAR * 2**0.5)
    return x[:, :, 2**levels - 1 :]
