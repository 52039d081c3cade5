"""From noise to a latent along the probability-flow ODE."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from procosm.world_model.diffusion.precondition import SIGMA_MAX, SIGMA_MIN

Denoise = Callable[[Tensor, Tensor], Tensor]


def karras_sigmas(steps: int, device: torch.device | None = None, rho: float = 7.0) -> Tensor:
    """(steps + 1,) noise levels from σ_max down to 0 (Karras et al. 2022, equation 5)."""
    kind: dict[str, Any] = {"dtype": torch.float32, "device": device}
    ramp = torch.linspace(0, 1, steps, **kind) if steps > 1 else torch.zeros(1, **kind)
    low, high = SIGMA_MIN ** (1 / rho), SIGMA_MAX ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros_like(ramp[:1])])


def sample_euler(denoise: Denoise, x: Tensor, sigmas: Tensor) -> Tensor:
    """Euler steps along the probability-flow ODE (Karras et al. 2022, Algorithm 1 without its correction).

    Args:
        denoise: (x, sigma (b,)) to the expected clean latent.
        x: (b, …) at noise level ``sigmas[0]``. One step from x = 0 gives the mean prediction.
        sigmas: decreasing noise levels, the last one 0.
    """
    for sigma, following in pairwise(sigmas):
        clean = denoise(x, sigma.expand(x.shape[0]))
        x = clean + (following / sigma) * (x - clean)
    return x


def standard_normal(draws: Sequence[np.random.Generator], shape: Sequence[int], like: Tensor) -> Tensor:
    """(b, *shape) standard normal draws, those of each row from its own generator; device and dtype as ``like``."""
    noise = np.empty((len(draws), *shape), np.float32)
    for row, generator in zip(noise, draws, strict=True):
        generator.standard_normal(out=row, dtype=np.float32)
    return torch.from_numpy(noise).to(like)
