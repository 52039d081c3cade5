"""EDM preconditioning and loss (Karras et al. 2022, arXiv 2206.00364; Cosmos §5.1)."""

import torch
from torch import Tensor

SIGMA_DATA = 0.5
SIGMA_MIN, SIGMA_MAX = 0.002, 80.0


def coefficients(sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """c_skip, c_out, c_in and c_noise at noise levels (b,); the first three as (b, 1, 1, 1, 1), to scale latents."""
    total = sigma**2 + SIGMA_DATA**2
    c_skip, c_out, c_in = SIGMA_DATA**2 / total, sigma * SIGMA_DATA / total.sqrt(), total.rsqrt()
    c_skip, c_out, c_in = (c.view(-1, 1, 1, 1, 1) for c in (c_skip, c_out, c_in))
    return c_skip, c_out, c_in, sigma.log() / 4


def loss_weight(sigma: Tensor) -> Tensor:
    """λ(σ) = (σ² + σ_data²) / (σ σ_data)², which gives every noise level the same weight at initialisation."""
    return (sigma**2 + SIGMA_DATA**2) / (sigma * SIGMA_DATA) ** 2


def uncertainty_loss(error: Tensor, sigma: Tensor, u: Tensor) -> Tensor:
    """E[λ(σ) / e^u(σ) · error + u(σ)], the learned balance between noise levels (Cosmos §5.1, equation 4).

    Args:
        error: (b,) mean squared error of the denoised latent. sigma, u: (b,).
    """
    return (loss_weight(sigma) * error * torch.exp(-u) + u).mean()


def sample_sigma(n: int, mean: float, std: float, generator: torch.Generator) -> Tensor:
    """(n,) noise levels with ln σ ~ N(mean, std²), kept within [σ_min, σ_max]."""
    return (torch.randn(n, generator=generator) * std + mean).exp().clamp(SIGMA_MIN, SIGMA_MAX)
