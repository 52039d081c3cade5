"""Moments of numbers that come in parts are those of all together."""

import numpy as np
import pytest
import torch

from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.diffusion.manifold import Manifold
from procosm.world_model.features import FeatureLoss
from procosm.world_model.heads import FeatureHead
from procosm.world_model.moments import mean_and_covariance, pooled_deviation

SHAPE = (2, 4, 4)


def latents(count: int = 300) -> torch.Tensor:
    """Far from zero, and each number with a spread of its own."""
    g = torch.Generator().manual_seed(0)
    return 50 + torch.randn(count, *SHAPE, generator=g) * torch.logspace(-2, 1, 32).view(SHAPE)


@pytest.mark.parametrize("size", [1, 7, 299, 300])
def test_they_are_numpys(size):
    z = latents()
    mean, covariance = mean_and_covariance(z.split(size))
    flat = z.flatten(1).double().numpy()
    np.testing.assert_allclose(mean, flat.mean(0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(flat.T), rtol=1e-9, atol=1e-12)


def test_of_one_part_they_are_torchs_to_the_last_bit():
    """So that a training in memory is what it was before data could come in parts."""
    flat = latents().flatten(1).double()
    mean, covariance = mean_and_covariance([latents()])
    assert torch.equal(mean, flat.mean(0)) and torch.equal(covariance, torch.cov(flat.T))
    for z in (latents(), latents() - 50):
        deviation = pooled_deviation([300 * 16], [z.mean((0, 2, 3))], [z.std((0, 2, 3))])
        assert torch.equal(deviation, z.std((0, 2, 3)))


@pytest.mark.parametrize("size", [2, 7, 250])
def test_deviations_of_parts_make_that_of_all(size):
    parts, over = latents().split(size), (0, 2, 3)
    found = pooled_deviation([16 * len(p) for p in parts], [p.mean(over) for p in parts], [p.std(over) for p in parts])
    expected = latents().numpy().astype(np.float64).std((0, 2, 3), ddof=1)
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_what_is_fitted_to_parts_is_what_is_fitted_to_all():
    z = latents() - 50
    pairs = torch.stack([z[:-2], z[1:-1]], 1), z[2:]
    fits = []
    for size in (len(z), 37):
        torch.manual_seed(0)
        manifold, head = Manifold(SHAPE), FeatureHead(2, SHAPE, 3)
        dynamics = DiffusionDynamics(DynamicsConfig(), SHAPE, 1, 3)
        features = FeatureLoss(head, 32, 1)
        manifold.fit(z.split(size))
        features.fit(z[1:].split(size), (z[1:] - z[:-1]).split(size))
        dynamics.fit_residual(list(zip(*(each.split(size) for each in pairs), strict=True)))
        head.whiten(pairs[0].split(size))
        fits.append({**manifold.state_dict(), **features.state_dict(), **dynamics.state_dict()})
    assert all(torch.allclose(fits[0][name], fits[1][name], rtol=1e-4, atol=1e-5) for name in fits[0])
