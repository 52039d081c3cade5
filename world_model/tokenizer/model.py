"""The tokenizer: frames to a small grid of latents and back (Cosmos §4, arXiv 2501.03575).

Haar patches, a convolutional encoder, latents that are continuous or, with ``levels``, tokens, and the mirrored
decoder. With
``temporal_compression`` 1 every frame is coded alone (image mode, what step-by-step dreams use); with 2, 4 or 8 time is
compressed too and every layer is causal (video mode). A video model codes a single frame as well. Weights know nothing
of a frame's size but ``mean_frame``, which is zero where none was fitted.
"""

import math
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from procosm.world_model.errors import ProcosmError
from procosm.world_model.graphs import Recorder, fingerprint
from procosm.world_model.interface import LatentSpec
from procosm.world_model.precision import float32_convolutions
from procosm.world_model.tokenizer.bottleneck import FSQ
from procosm.world_model.tokenizer.causal import (
    CausalAttention,
    CausalConv,
    FrameNorm,
    ResBlock,
    SpatialConv,
    TemporalConv,
    per_frame,
    per_video,
)
from procosm.world_model.tokenizer.linear import LinearPath
from procosm.world_model.tokenizer.wavelet import haar, inverse_haar


@dataclass(frozen=True)
class TokenizerConfig:
    """Shape of a tokenizer."""

    frame_height: Annotated[int, Field(ge=8, le=1024)] = 64
    """Of a frame, pixels; ``latent_size`` times a power of 2."""
    frame_width: Annotated[int, Field(ge=8, le=16384)] = 64
    """Of a frame, pixels, that of all views together; a multiple of the same power of 2."""
    latent_channels: Annotated[int, Field(ge=1, le=256)] = 4
    """Channels of a latent."""
    width: Annotated[int, Field(ge=1, le=4096)] = 32
    """Channels after the wavelet; each halving doubles them."""
    blocks: Annotated[int, Field(ge=0, le=32)] = 1
    """Residual blocks at each resolution, in each of encoder and decoder."""
    haar_levels: Annotated[int, Field(ge=0, le=3)] = 2
    """Wavelet halvings before the first convolution."""
    latent_size: Annotated[int, Field(ge=1, le=256)] = 8
    """Height of a latent; it is as much wider as frames are."""
    temporal_compression: Annotated[int, Field(ge=1, le=8)] = 1
    """Frames for each latent: 1 (image mode), or 2, 4, 8 (video mode)."""
    levels: Annotated[tuple[Annotated[int, Field(ge=2, le=64)], ...], Field(max_length=16)] = ()
    """Levels of each channel of a discrete latent, as many as ``latent_channels``; none: latents are continuous."""
    linear_path: bool = False
    """Whether a linear code stands beside the networks, which then add to it; see ``linear``."""
    views: Annotated[int, Field(ge=1, le=16)] = 1
    """Equal parts side by side in a frame, each coded without a look at the others: 1 for a whole picture."""

    @property
    def halvings(self) -> int:
        """Strided convolutions between the wavelet and the latent."""
        return int(math.log2(self.frame_height >> self.haar_levels) - math.log2(self.latent_size))

    @property
    def temporal(self) -> bool:
        return self.temporal_compression > 1

    @property
    def spec(self) -> LatentSpec:
        """What its latents are like."""
        width = self.frame_width * self.latent_size // self.frame_height
        return LatentSpec(
            (self.latent_channels, self.latent_size, width),
            self.temporal_compression,
            math.prod(self.levels) if self.levels else None,
        )

    @property
    def pixels_per_latent(self) -> int:
        """Of each side of a frame."""
        return self.frame_height // self.latent_size

    def sized(self, height: int, width: int) -> "TokenizerConfig":
        """The same for frames of another size, multiples of ``pixels_per_latent``."""
        rows = height // self.pixels_per_latent
        return replace(self, frame_height=height, frame_width=width, latent_size=rows)

    def takes(self, height: int, width: int) -> bool:
        """Whether frames of this size can become latents of ``latent_size``."""
        ratio = height // self.latent_size
        whole = ratio * self.latent_size == height and ratio >= 2**self.haar_levels and ratio.bit_count() == 1
        return whole and width % ratio == 0

    def __post_init__(self) -> None:
        if not self.takes(self.frame_height, self.frame_width):
            raise ProcosmError(
                f"frames of {self.frame_height} by {self.frame_width} px cannot become latents of {self.latent_size} "
                f"rows: the ratio must be a power of 2, at least {2**self.haar_levels}, and divide the width"
            )
        if self.frame_width % (self.views * self.pixels_per_latent):
            raise ProcosmError(
                f"frames {self.frame_width} px wide cannot show {self.views} views whose latents are of one view each: "
                f"the width of a view must be a multiple of {self.pixels_per_latent}"
            )
        if self.temporal_compression not in (1, 2, 4, 8) or (
            self.temporal and self.temporal_compression < 2**self.haar_levels
        ):
            raise ProcosmError(
                f"temporal_compression {self.temporal_compression}: give 1, or a power of 2 from "
                f"{2**self.haar_levels} (the wavelet's own) to 8"
            )
        if self.levels and len(self.levels) != self.latent_channels:
            raise ProcosmError(f"levels of {len(self.levels)} channels for latents of {self.latent_channels}")
        if math.prod(self.levels) >= 2**31:
            raise ProcosmError(f"levels {self.levels} make {math.prod(self.levels)} tokens: give fewer than 2**31")


class Down(nn.Module):
    """Half the height and width, twice the channels; with ``temporal`` also half the time, causally."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.space = SpatialConv(channels, 2 * channels, stride=2)
        self.time = TemporalConv(2 * channels, stride=2) if temporal else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.time(self.space(x))


class Up(nn.Module):
    """The mirror of :class:`Down`: every value repeated, then mixed."""

    def __init__(self, channels: int, temporal: bool) -> None:
        super().__init__()
        self.temporal = temporal
        self.conv = CausalConv(channels, channels // 2, temporal)

    def forward(self, x: Tensor) -> Tensor:
        x = per_video(nn.functional.interpolate(per_frame(x), scale_factor=2.0, mode="nearest"), x.shape[0])
        if self.temporal:  # 1 + n latents cover 1 + 2n frames: the first is alone
            x = torch.cat([x[:, :, :1], x[:, :, 1:].repeat_interleave(2, dim=2)], dim=2)
        return self.conv(x)


def encoder(config: TokenizerConfig) -> nn.Sequential:
    """Haar coefficients to latents."""
    temporal, width = config.temporal, config.width
    steps = int(math.log2(config.temporal_compression)) - (config.haar_levels if temporal else 0)
    coefficients = 3 * (8 if temporal else 4) ** config.haar_levels
    layers: list[nn.Module] = [CausalConv(coefficients, width, temporal)]
    for level in range(config.halvings):
        layers += [ResBlock(width, temporal) for _ in range(config.blocks)]
        layers += [Down(width, temporal and level < steps)]
        width *= 2
    layers += [ResBlock(width, temporal), CausalAttention(width, temporal), ResBlock(width, temporal)]
    layers += [FrameNorm(width), nn.SiLU(), CausalConv(width, config.latent_channels, temporal)]
    return nn.Sequential(*layers)


def decoder(config: TokenizerConfig) -> nn.Sequential:
    """Latents to Haar coefficients."""
    temporal, width = config.temporal, config.width << config.halvings
    steps = int(math.log2(config.temporal_compression)) - (config.haar_levels if temporal else 0)
    coefficients = 3 * (8 if temporal else 4) ** config.haar_levels
    layers: list[nn.Module] = [CausalConv(config.latent_channels, width, temporal)]
    layers += [ResBlock(width, temporal), CausalAttention(width, temporal), ResBlock(width, temporal)]
    for level in reversed(range(config.halvings)):
        layers += [Up(width, temporal and level < steps)]
        width //= 2
        layers += [ResBlock(width, temporal) for _ in range(config.blocks)]
    layers += [FrameNorm(width), nn.SiLU(), CausalConv(width, coefficients, temporal)]
    return nn.Sequential(*layers)


def linear_path(config: TokenizerConfig) -> LinearPath:
    """Haar coefficients to latents and back without a network between."""
    temporal = config.temporal
    coefficients = 3 * (8 if temporal else 4) ** config.haar_levels
    frames = config.temporal_compression >> config.haar_levels if temporal else 1
    return LinearPath(coefficients, config.latent_channels, frames, 2**config.halvings)


def spare(layer: nn.Module, width: int) -> bool:
    """Whether a layer may lose weights: a skip connection bypasses it, and it has more channels than ``width``."""
    return isinstance(layer, CausalAttention) or (isinstance(layer, ResBlock) and layer.channels > width)


class CausalTokenizer(nn.Module):
    """Frames to standardised latents and back; satisfies :class:`procosm.world_model.interface.Tokenizer`.

    ``stay_dense`` names what sparse training leaves alone: the layers that no skip connection bypasses (first, last,
    every change of size), and the residual blocks of the fewest channels. Together they hold few of the weights.
    """

    mean: Tensor
    std: Tensor
    mean_frame: Tensor

    def __init__(self, config: TokenizerConfig) -> None:
        super().__init__()
        self.config = config
        self.spec = config.spec
        self.mixed = False  # decoding in bfloat16: faster where the processor has it, pixels within a level or two
        self._recorder = Recorder()
        self.encoder, self.decoder = encoder(config), decoder(config)
        self.bottleneck: nn.Module = FSQ(config.levels) if config.levels else nn.Identity()
        self.linear = linear_path(config) if config.linear_path else None
        sides = ((side, i, layer) for side in ("encoder", "decoder") for i, layer in enumerate(getattr(self, side)))
        self.stay_dense = tuple(f"{side}.{i}.*" for side, i, layer in sides if not spare(layer, config.width))
        self.register_buffer("mean", torch.zeros(config.latent_channels, 1, 1, 1))
        self.register_buffer("std", torch.ones(config.latent_channels, 1, 1, 1))
        self.register_buffer("mean_frame", torch.zeros(3, 1, config.frame_height, config.frame_width))

    def pixels(self, frames: Tensor) -> Tensor:
        """uint8 (b, t, h, w, 3) to (b, 3, t, h, w) in [-1, 1]."""
        height, width = self.config.frame_height, self.config.frame_width
        if frames.shape[2:] != (height, width, 3):
            raise ProcosmError(
                f"frames of shape {tuple(frames.shape)} do not fit this tokenizer: "
                f"it takes (b, t, {height}, {width}, 3)"
            )
        return frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1.0

    def to_latents(self, x: Tensor) -> Tensor:
        """(b, 3, t, h, w) in [-1, 1] to (b, c, t', h', w'), before standardising; codes where there are ``levels``.

        Raises:
            ProcosmError: a number of frames that is not 1 + k n.
        """
        return self.bottleneck(self.unrounded(x))

    def unrounded(self, x: Tensor) -> Tensor:
        """The same before the bottleneck.

        Raises:
            ProcosmError: a number of frames that is not 1 + k n.
        """
        k, t = self.spec.frames_per_latent, x.shape[2]
        if t < 1 or (t - 1) % k:
            below = 1 + max(t - 1, 0) // k * k
            raise ProcosmError(
                f"{t} frames cannot be coded: the first is coded alone and every {k} after it together, so give "
                f"1 + {k} n frames, such as {below} or {below + k}"
            )
        coefficients = haar(self._apart(x - self.mean_frame), self.config.haar_levels, self.config.temporal)
        with float32_convolutions():
            z = self.encoder(coefficients)
        return self._together(z if self.linear is None else z + self.linear.encode(coefficients))

    def to_pixels(self, z: Tensor) -> Tensor:
        """The inverse direction of :meth:`to_latents`."""
        z = self._apart(z)
        with torch.autocast(z.device.type, torch.bfloat16, enabled=self.mixed), float32_convolutions():
            coefficients = self.decoder(z)
        coefficients = coefficients.to(z.dtype)
        if self.linear is not None:
            coefficients = coefficients + self.linear.decode(z)
        x = inverse_haar(coefficients, self.config.haar_levels, self.config.temporal)
        return self._together(x) + self.mean_frame

    def _apart(self, x: Tensor) -> Tensor:
        """(b, c, t, h, w) of all views side by side to (b views, c, t, h, w / views)."""
        views = self.config.views
        return x if views == 1 else x.unflatten(-1, (views, -1)).movedim(-2, 1).flatten(0, 1)

    def _together(self, x: Tensor) -> Tensor:
        """The inverse of :meth:`_apart`."""
        views = self.config.views
        return x if views == 1 else x.unflatten(0, (-1, views)).movedim(1, -2).flatten(-2)

    @property
    def trained(self) -> bool:
        """Whether its latents have units, which is the last that training gives it."""
        return bool((self.std != 1).any())

    @torch.no_grad()
    def fit_linear(self, x: Tensor) -> None:
        """Begin as the best linear code of these pixels, (b, 3, t, h, w) in [-1, 1]: the networks add nothing yet."""
        if self.linear is None:
            raise ProcosmError("this tokenizer has no linear path (linear_path)")
        coefficients = haar(x - self.mean_frame, self.config.haar_levels, self.config.temporal)
        self.linear.fit(coefficients, self.bottleneck)
        for layer in (self.encoder[-1], self.decoder[-1]):
            for p in layer.get_submodule("space").parameters():
                p.zero_()

    @torch.no_grad()
    def fit_latents(self, z: Tensor) -> None:
        """Standardise from now on with the mean and deviation of these (b, c, t, h, w) latents, by channel."""
        self.mean.copy_(z.mean(dim=(0, 2, 3, 4)).view_as(self.mean))
        self.std.copy_(z.std(dim=(0, 2, 3, 4)).view_as(self.std).clamp_min(1e-6))

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """uint8 (b, t, h, w, 3) to standardised latents (b, t', c, h', w')."""
        return ((self.to_latents(self.pixels(frames)) - self.mean) / self.std).transpose(1, 2)

    @torch.no_grad()
    def quantize(self, latents: Tensor) -> Tensor:
        """Standardised latents (b, t', c, h', w') to the nearest tokens, int64 (b, t', h', w')."""
        return self._fsq().tokens(latents.transpose(1, 2) * self.std + self.mean)

    @torch.no_grad()
    def dequantize(self, tokens: Tensor) -> Tensor:
        """Tokens (b, t', h', w') to the standardised latents that they stand for, (b, t', c, h', w').

        Raises:
            ProcosmError: numbers that are no tokens.
        """
        fsq = self._fsq()
        if tokens.is_floating_point() or not ((tokens >= 0) & (tokens < fsq.vocabulary)).all():
            raise ProcosmError(f"tokens must be whole numbers from 0 to {fsq.vocabulary - 1}")
        return ((fsq.codes(tokens) - self.mean) / self.std).transpose(1, 2)

    def _fsq(self) -> FSQ:
        if not isinstance(self.bottleneck, FSQ):
            raise ProcosmError("this tokenizer is continuous and has no tokens: train a discrete one (levels)")
        return self.bottleneck

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents (b, t', c, h', w') to uint8 (b, t, h, w, 3).

        Raises:
            ProcosmError: pixels that are not finite numbers, which uint8 would make grey of some kind.
        """
        frames, finite = self._recorder(self._decode, lambda: (fingerprint(self), self.mixed), latents)
        if not finite.all():
            frame = int((~finite).flatten().nonzero()[0])
            raise ProcosmError(
                f"frame {frame} of {finite.numel()} was decoded to pixels that are no finite numbers: the dream has "
                "run away or the weights are damaged. Begin another, or open another checkpoint"
            )
        return frames

    def _decode(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """Frames, and for each (b, t) whether its pixels were finite."""
        z = latents.transpose(1, 2) * self.std + self.mean
        x = self.to_pixels(z.contiguous())  # in another order in memory, convolutions have other last bits
        # Of each frame the extremes, which are NaN where a pixel is: a look at every pixel takes 25 times as long.
        finite = torch.isfinite(x.amax((1, 3, 4))) & torch.isfinite(x.amin((1, 3, 4)))
        x.clamp_(-1, 1).add_(1.0).mul_(127.5).round_()  # in place: a new tensor's memory costs more than its numbers
        return x.to(torch.uint8).permute(0, 2, 3, 4, 1), finite
