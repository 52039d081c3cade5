"""Solvers against diffusers' schedulers, which are given the same model outputs, and against closed forms."""

import numpy as np
import pytest
import torch
from diffusers import EDMDPMSolverMultistepScheduler, EDMEulerScheduler, UniPCMultistepScheduler

from procosm.world_model.diffusion.sampler import karras_sigmas, noise_for, sample, sigmas_for
from procosm.world_model.interface import Sampling

SHAPE = (2, 3, 1, 4, 4)
# diffusers hands NumPy arrays to torch in a way that NumPy 2 warns of
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def clean(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Some model: what it expects of x depends on x and σ in a bent way."""
    return torch.tanh(x / (1 + sigma)) * (1 + 0.3 * torch.sin(3 * sigma.log1p())) + 0.1 * x / (1 + sigma**2)


def drawn(seed: int) -> torch.Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("steps", [3, 4, 12])
def test_dpm_against_diffusers(steps):
    theirs = EDMDPMSolverMultistepScheduler(solver_order=2, final_sigmas_type="zero")
    theirs.set_timesteps(steps)
    x = drawn(0) * theirs.sigmas[0]
    expected = x
    for i, t in enumerate(theirs.timesteps):
        sigma = theirs.sigmas[i]
        total = (sigma**2 + 0.25).sqrt()
        output = (clean(expected, sigma) - expected * 0.25 / total**2) / (sigma * 0.5 / total)
        theirs.scale_model_input(expected, t)
        expected = theirs.step(output, t, expected).prev_sample
    found, euler = (sample(clean, x, theirs.sigmas, Sampling(steps, solver)) for solver in ("dpm++", "euler"))
    assert (found - expected).abs().max() < 1e-5 < (euler - expected).abs().max()


@pytest.mark.parametrize("steps", [2, 4, 12])
@pytest.mark.parametrize("final", ["zero", "sigma_min"])
def test_unipc_against_diffusers_which_walks_the_straight_path_of_a_flow(steps, final):
    theirs = UniPCMultistepScheduler(
        use_karras_sigmas=True, use_flow_sigmas=True, prediction_type="flow_prediction", sigma_max=80.0,
        sigma_min=0.01, final_sigmas_type=final,
    )  # fmt: skip
    theirs.set_timesteps(steps)
    levels = theirs.sigmas / (1 - theirs.sigmas)  # x = data + σ noise is theirs over 1 - t
    x = drawn(1) * levels[0]
    expected = x / (1 + levels[0])
    for i, t in enumerate(theirs.timesteps):
        level = theirs.sigmas[i]
        velocity = (expected - clean(expected / (1 - level), levels[i])) / level
        expected = theirs.step(velocity, t, expected).prev_sample
    found = sample(clean, x, levels, Sampling(steps, "unipc")) / (1 + levels[-1])
    assert (found - expected).abs().max() < 1e-5
    assert steps == 2 or (found - sample(clean, x, levels, Sampling(steps, "dpm++"))).abs().max() > 1e-4


def test_churn_against_diffusers():
    theirs, steps, churn = EDMEulerScheduler(final_sigmas_type="zero"), 6, 3.0
    theirs.set_timesteps(steps)
    x = drawn(2) * theirs.sigmas[0]
    expected, generator = x, torch.Generator().manual_seed(7)
    for i, t in enumerate(theirs.timesteps):
        theirs.scale_model_input(expected, t)
        grown = theirs.sigmas[i] * (1 + (min(churn / steps, 2**0.5 - 1) if i else 0))
        extra = torch.randn(SHAPE, generator=torch.Generator().manual_seed(100 + i))
        noisy = expected + extra * (grown**2 - theirs.sigmas[i] ** 2) ** 0.5
        generator.manual_seed(100 + i)
        expected = theirs.step(
            torch.zeros(SHAPE), t, expected, s_churn=churn, s_tmax=float(theirs.sigmas[0]) - 1e-3, generator=generator,
            pred_original_sample=clean(noisy, grown),
        ).prev_sample  # fmt: skip
    noise = [torch.randn(SHAPE, generator=torch.Generator().manual_seed(100 + i)) for i in range(1, steps)]
    found = sample(clean, x, theirs.sigmas, Sampling(steps, churn=churn), noise)
    assert (found - expected).abs().max() < 1e-5


def flow(solver: str, steps: int, s: float = 0.7) -> float:
    """Error for data N(0, s²), whose ideal denoiser is linear and whose flow is x(0) = x(σ) s / sqrt(s² + σ²)."""
    sigmas = karras_sigmas(steps).double()
    x = torch.linspace(-2, 2, 9, dtype=torch.float64) * sigmas[0]
    found = sample(lambda x, sigma: x * (s**2 / (s**2 + sigma**2)), x, sigmas, Sampling(steps, solver))
    return (found - x * s / (s**2 + sigmas[0] ** 2).sqrt()).abs().max().item()


def test_orders_of_convergence():
    assert 1.6 < flow("euler", 40) / flow("euler", 80) < 2.4
    assert 3 < flow("dpm++", 40) / flow("dpm++", 80) < 5.5
    assert flow("unipc", 40) < flow("dpm++", 40) / 2 < flow("euler", 40) / 4


def test_a_consistent_model_needs_one_step_and_draws_the_same_distribution_with_more():
    s, sigmas = 0.7, sigmas_for(Sampling(3, "consistency")).double()
    assert sigmas.shape == (4,) and sigmas[0] == pytest.approx(80) and sigmas[2] > 0.01 and sigmas[3] == 0
    draws = [np.random.default_rng(i) for i in range(4000)]
    first, *others = noise_for(draws, Sampling(3, "consistency"), (4,), sigmas)

    def whole_way(x, sigma):
        return x * s / (s**2 + sigma**2).sqrt()

    for steps in (1, 3):
        levels = sigmas_for(Sampling(steps, "consistency")).double()
        found = sample(whole_way, first * levels[0], levels, Sampling(steps, "consistency"), others)
        assert found.std() == pytest.approx(s, rel=0.02) and abs(found.mean()) < 0.02
    assert len(others) == 2 and len(noise_for(draws, Sampling(3, "unipc"), (4,), sigmas)) == 1


def test_one_step_from_zero_is_the_denoiser_itself():
    x = torch.zeros(3, 2)
    for solver in ("euler", "dpm++", "unipc", "consistency"):
        assert torch.equal(sample(lambda x, sigma: x + 5, x, karras_sigmas(1), Sampling(1, solver)), x + 5)
