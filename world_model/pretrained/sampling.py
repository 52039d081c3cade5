"""How published models draw a video: noise levels of Karras et al. (arXiv 2206.00364), and what is given kept.

Two families. Predict1 is preconditioned as EDM has it. Predict2 and 2.5 predict the velocity of a straight path from
noise to data, noise - data; with x = data + σ noise, the point of that path at t = σ / (1 + σ) is x / (1 + σ).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor

from procosm.world_model.errors import ProcosmError

Sigma = Annotated[float, Field(gt=0, le=1e4)]
Network = Callable[[Tensor, Tensor], Tensor]
"""Scaled latents (b, c, t, h, w) and noise levels (b, t), in the network's terms, to its output."""


@dataclass(frozen=True)
class NoiseConfig:
    """Noise of a published model, and how the network is told of it."""

    family: Literal["edm", "flow"] = "edm"
    """``edm``: Predict1; ``flow``: Predict2 and 2.5."""
    sigma_min: Sigma = 0.002
    sigma_max: Sigma = 80.0
    sigma_data: Sigma = 0.5
    """Deviation of latents as the network sees them."""
    given_sigma: Sigma = 0.001
    """Noise level at which given latents are shown; ``edm`` adds so much."""
    ends_clean: bool = False
    """Whether the last step ends at noise level 0; published schedules stop at ``sigma_min``."""

    def __post_init__(self) -> None:
        if self.sigma_min >= self.sigma_max:
            raise ProcosmError(f"sigma_min {self.sigma_min} must be below sigma_max {self.sigma_max}")


def sigmas(config: NoiseConfig, steps: int) -> Tensor:
    """(steps + 1,) noise levels, float32; the last is repeated, or 0.

    ``steps`` is at least 2: with one, only the mean can be taken.
    """
    ramp = torch.linspace(0, 1, steps, dtype=torch.float64)
    low, high = config.sigma_min ** (1 / 7), config.sigma_max ** (1 / 7)
    found = (high + ramp * (low - high)) ** 7
    last = torch.zeros(1, dtype=torch.float64) if config.ends_clean else found[-1:]
    return torch.cat([found, last]).float()


def c_out(config: NoiseConfig, sigma: Tensor) -> Tensor:
    """What the network's output is multiplied by, in D = c_skip x + c_out F, at a noise level."""
    if config.family == "edm":
        return sigma * config.sigma_data * (sigma**2 + config.sigma_data**2).rsqrt()
    return -sigma / (1 + sigma)


def denoised(
    config: NoiseConfig, network: Network, x: Tensor, sigma: Tensor, given: Tensor, noise: Tensor | None
) -> Tensor:
    """D(x; σ): the expected clean latents, in units of ``sigma_data``, the given ones among them.

    Args:
        x: (b, c, t, h, w) at noise level ``sigma``, a number on its device.
        given: (b, c, n, h, w) the first n latents, clean, in units of ``sigma_data``; n from 0 up.
        noise: standard normal, like ``given``, of which ``edm`` adds a little; None adds none.
    """
    n, variance = given.shape[2], config.sigma_data**2
    if config.family == "edm":
        c_in, c_skip, level = (sigma**2 + variance).rsqrt(), variance / (sigma**2 + variance), sigma.log() / 4
        shown = (given if noise is None else given + config.given_sigma * noise) / (
            config.given_sigma**2 + variance
        ) ** 0.5
        told = sigma if sigma > config.given_sigma else None  # below, all latents are shown as they are
        levels = level.expand(len(x), x.shape[2])
    else:
        c_in = c_skip = 1 / (1 + sigma)
        shown, told = given, sigma
        levels = (sigma / (1 + sigma)).repeat(len(x), x.shape[2])
        levels[:, :n] = config.given_sigma / (1 + config.given_sigma)
    scaled = x * c_in if told is None else torch.cat([shown, x[:, :, n:] * c_in], dim=2)
    clean = c_skip * x + c_out(config, sigma) * network(scaled, levels).to(x.dtype)
    return clean if told is None else torch.cat([given, clean[:, :, n:]], dim=2)
