"""From noise to data: solvers of the probability-flow ODE, and two that draw noise on the way.

All work on x = data + σ noise and on D(x; σ), the expected data. A model whose points lie on another path of signal and
noise, such as (1 - t) data + t noise, has the same solution: what is scaled here is not there, and λ = -ln σ is the
same. Steps from σ_s to σ_t, h = λ_t - λ_s.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from procosm.world_model.diffusion.precondition import SIGMA_MAX, SIGMA_MIN
from procosm.world_model.interface import Sampling

Denoise = Callable[[Tensor, Tensor], Tensor]
MOST_CHURN = 2**0.5 - 1
"""By what part of itself noise may grow before a step, at most (Karras et al. 2022, Algorithm 2)."""


def karras_sigmas(steps: int, device: torch.device | None = None, rho: float = 7.0) -> Tensor:
    """(steps + 1,) noise levels from σ_max down to 0 (Karras et al. 2022, equation 5)."""
    kind: dict[str, Any] = {"dtype": torch.float32, "device": device}
    ramp = torch.linspace(0, 1, steps, **kind) if steps > 1 else torch.zeros(1, **kind)
    low, high = SIGMA_MIN ** (1 / rho), SIGMA_MAX ** (1 / rho)
    return torch.cat([(high + ramp * (low - high)) ** rho, torch.zeros_like(ramp[:1])])


def sigmas_for(sampling: Sampling, device: torch.device | None = None) -> Tensor:
    """(steps + 1,) noise levels down to 0; a consistent model has nothing to do at the last but one of Karras et al."""
    if sampling.solver != "consistency":
        return karras_sigmas(sampling.steps, device)
    levels = karras_sigmas(sampling.steps + 1, device)
    return torch.cat([levels[:-2], levels[-1:]])


def noise_for(
    draws: Sequence[np.random.Generator] | None, sampling: Sampling, shape: Sequence[int], like: Tensor
) -> list[Tensor]:
    """What one step of dreams draws, (b, *shape) each: the noise it starts from, then that on the way.

    Without ``draws`` it starts from zero, as many as ``like`` has rows, and there is none on the way.
    """
    if draws is None:
        return [like.new_zeros(len(like), *shape)]
    count = sampling.steps if sampling.solver == "consistency" or sampling.churn else 1
    return [standard_normal(draws, shape, like) for _ in range(count)]


def sample(
    denoise: Denoise, x: Tensor, sigmas: Tensor, sampling: Sampling, noise: Sequence[Tensor] | None = None
) -> Tensor:
    """From ``x`` (b, …) at noise level ``sigmas[0]`` to the last of ``sigmas``.

    Args:
        denoise: (x, sigma), sigma a number on its device, to the expected clean x. From x = 0 one step gives the mean.
        sigmas: noise levels that do not rise, the last one 0 or not.
        sampling: which solver, and how much it churns.
        noise: standard normal, like x, one for each but the first step of solvers that draw on the way; None draws
            nothing on the way.
    """
    drawn = iter(noise or ())
    if sampling.solver == "consistency":
        return _consistency(denoise, x, sigmas, drawn)
    if sampling.solver == "euler":
        return _euler(denoise, x, sigmas, sampling.churn, drawn)
    return _multistep(denoise, x, sigmas, corrected=sampling.solver == "unipc")


def _euler(denoise: Denoise, x: Tensor, sigmas: Tensor, churn: float, drawn: Iterator[Tensor]) -> Tensor:
    """Karras et al. 2022, Algorithm 2 without its correction; Algorithm 1 without churn.

    Noise does not grow before the first step: beyond the highest level nothing was learned.
    """
    growth = 1 + min(churn / (len(sigmas) - 1), MOST_CHURN)
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        if step and churn and (extra := next(drawn, None)) is not None:
            x, sigma = x + sigma * math.sqrt(growth**2 - 1) * extra, growth * sigma
        clean = denoise(x, sigma)
        x = clean + (following / sigma) * (x - clean)
    return x


def _consistency(denoise: Denoise, x: Tensor, sigmas: Tensor, drawn: Iterator[Tensor]) -> Tensor:
    """The network's own guess of the end, made noisy again and improved (Song et al. 2023, Algorithm 1)."""
    for step, sigma in enumerate(sigmas[:-1]):
        if step and (extra := next(drawn, None)) is not None:
            x = x + sigma * extra
        x = denoise(x, sigma)
    return x


def _multistep(denoise: Denoise, x: Tensor, sigmas: Tensor, corrected: bool) -> Tensor:
    """Second order from the steps before: DPM-Solver++(2M), and UniPC-2 where each step is ``corrected``.

    Source: Lu et al. 2022 (arXiv 2211.01095, Algorithm 2); Zhao et al. 2023 (arXiv 2302.04867, §3, B(h) = e^h - 1),
    whose predictor is the same. The first and the last step are of first order.
    """
    before: Tensor | None = None
    clean = denoise(x, sigmas[0])
    for step, (sigma, following) in enumerate(pairwise(sigmas)):
        last = step == len(sigmas) - 2
        decay = following / sigma - 1  # e^-h - 1
        h, base = (sigma / following).log(), (following / sigma) * x - decay * clean
        slope = None
        if before is not None:
            slope = (before - clean) * h / (sigma / sigmas[step - 1]).log()
        predicted = base if last or slope is None else base - decay / 2 * slope
        if last:
            return predicted
        after = denoise(predicted, following)
        x = _corrected(base, decay, h, slope, after - clean, sigma, sigmas[step - 1]) if corrected else predicted
        before, clean = clean, after
    return x


def _corrected(
    base: Tensor, decay: Tensor, h: Tensor, slope: Tensor | None, gained: Tensor, sigma: Tensor, earlier: Tensor
) -> Tensor:
    """UniC-2, of first order where there is no ``slope`` yet: the coefficients solve equation 9 of the paper."""
    if slope is None:
        return base - decay / 2 * gained
    ratio = (sigma / earlier).log() / h  # (λ of the step before - λ_s) / h, negative
    first = (decay / -h - 1) / decay
    second = 2 * ((decay / -h - 1) / -h - 0.5) / decay
    weight = (first - second) / (1 - ratio)
    return base - decay * (weight * slope + (first - weight) * gained)


def standard_normal(draws: Sequence[np.random.Generator], shape: Sequence[int], like: Tensor) -> Tensor:
    """(b, *shape) standard normal draws, those of each row from its own generator; device and dtype as ``like``."""
    noise = np.empty((len(draws), *shape), np.float32)
    for row, generator in zip(noise, draws, strict=True):
        generator.standard_normal(out=row, dtype=np.float32)
    return torch.from_numpy(noise).to(like)
