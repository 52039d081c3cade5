"""Preconditioning and samplers against closed forms."""

import pytest
import torch

from procosm.world_model.diffusion.precondition import (
    SIGMA_DATA,
    SIGMA_MAX,
    SIGMA_MIN,
    coefficients,
    loss_weight,
    sample_sigma,
    uncertainty_loss,
)
from procosm.world_model.diffusion.sampler import karras_sigmas


def test_network_input_and_target_have_unit_variance_at_every_noise_level():
    sigma = torch.logspace(-3, 2, 50, dtype=torch.float64)
    c_skip, c_out, c_in, c_noise = (c.flatten() for c in coefficients(sigma))
    assert torch.allclose(c_in**2 * (sigma**2 + SIGMA_DATA**2), torch.ones_like(sigma))
    target = ((1 - c_skip) ** 2 * SIGMA_DATA**2 + c_skip**2 * sigma**2) / c_out**2
    assert torch.allclose(target, torch.ones_like(sigma))
    assert torch.allclose(loss_weight(sigma) * c_out**2, torch.ones_like(sigma))
    assert torch.allclose(c_noise, sigma.log() / 4)


def test_uncertainty_is_best_at_the_log_of_the_weighted_error():
    sigma, error = torch.tensor([0.3]), torch.tensor([0.02])
    best = (loss_weight(sigma) * error).log()
    at_best = uncertainty_loss(error, sigma, best)
    for shift in (-0.1, 0.1):
        assert uncertainty_loss(error, sigma, best + shift) > at_best


def test_sigmas_fall_from_max_to_min_to_zero():
    for steps in (1, 2, 35):
        sigmas = karras_sigmas(steps)
        assert len(sigmas) == steps + 1
        assert sigmas[0] == pytest.approx(SIGMA_MAX)
        assert sigmas[-1] == 0
        assert (sigmas.diff() < 0).all()
    assert karras_sigmas(35)[-2] == pytest.approx(SIGMA_MIN, rel=1e-4)


def test_drawn_noise_levels_have_the_stated_median():
    sigma = sample_sigma(20000, -0.4, 1.2, torch.Generator().manual_seed(0))
    log = sigma.log()
    assert abs(log.mean() + 0.4) < 3 * 1.2 / 20000**0.5
    assert log.std() == pytest.approx(1.2, rel=0.03)
