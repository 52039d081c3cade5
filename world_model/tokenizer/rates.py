"""The ten rates of the Cosmos tokenizers (arXiv 2501.03575, §4): how much of a video becomes one latent.

A rate is named by kind and compression. C is continuous, D discrete; I codes images, V videos. CV4x8x8 makes one latent
of 16 numbers of 4 frames of 8 x 8 pixels; DV8x16x16 one token of 64,000 of 8 frames of 16 x 16 pixels.
"""

import re
from dataclasses import dataclass
from typing import Literal, get_args

from procosm.world_model.errors import ProcosmError
from procosm.world_model.tokenizer.bottleneck import COSMOS_LEVELS
from procosm.world_model.tokenizer.model import TokenizerConfig

CHANNELS = 16
"""Of a continuous latent."""
RateName = Literal[
    "CI8x8", "CI16x16", "DI8x8", "DI16x16", "CV4x8x8", "CV8x8x8", "CV8x16x16", "DV4x8x8", "DV8x8x8", "DV8x16x16"
]
RATES: tuple[RateName, ...] = get_args(RateName)


@dataclass(frozen=True)
class Rate:
    """Frames, and pixels along each side of a frame, that become one latent; and whether that is a token."""

    frames: int
    pixels: int
    discrete: bool


def rate(name: str) -> Rate:
    """The rate of this name.

    Raises:
        ProcosmError: there is none.
    """
    if name not in RATES:
        raise ProcosmError(f"no rate is called {name[:40]!r}: choose one of {', '.join(RATES)}")
    numbers = [int(number) for number in re.findall(r"\d+", name)]
    return Rate(frames=numbers[0] if name[1] == "V" else 1, pixels=numbers[-1], discrete=name[0] == "D")


def rate_config(name: str, height: int, width: int, channels: int, blocks: int) -> TokenizerConfig:
    """The tokenizer of a rate, for frames of ``height`` by ``width`` pixels.

    Args:
        channels: after the wavelet, see ``TokenizerConfig.width``. blocks: residual blocks at each resolution.

    Raises:
        ProcosmError: a side that is no multiple of the rate's.
    """
    asked = rate(name)
    if height % asked.pixels or width % asked.pixels:
        raise ProcosmError(
            f"frames of {height} x {width} pixels cannot be coded at {name}: give multiples of {asked.pixels}"
        )
    return TokenizerConfig(
        frame_height=height,
        frame_width=width,
        latent_size=height // asked.pixels,
        latent_channels=len(COSMOS_LEVELS) if asked.discrete else CHANNELS,
        levels=COSMOS_LEVELS if asked.discrete else (),
        temporal_compression=asked.frames,
        width=channels,
        blocks=blocks,
        linear_path=True,
    )
