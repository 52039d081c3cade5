"""What enters a policy's network, against the formulas in NumPy."""

import numpy as np
import pytest
import torch
from gymnasium import spaces

from procosm.envs.dreams.features import LatentMotion, StandardisedState, state_statistics


def test_state_is_standardised_and_clipped():
    space = spaces.Box(-np.inf, np.inf, (2,), np.float32)
    features = StandardisedState(space, mean=[1.0, -2.0], scale=[0.5, 4.0])
    seen = features(torch.tensor([[2.0, 2.0], [100.0, -100.0]]))
    assert seen.tolist() == [[2.0, 1.0], [10.0, -10.0]]


def test_latents_become_position_and_velocities():
    space = spaces.Box(-np.inf, np.inf, (3, 2, 2, 2), np.float32)
    z = np.random.default_rng(0).normal(size=(5, 3, 2, 2, 2)).astype(np.float32)
    expected = np.concatenate([z[:, 2], 4 * (z[:, 2] - z[:, 1]), 4 * (z[:, 2] - z[:, 0])], axis=1).reshape(5, -1)
    features = LatentMotion(space)
    np.testing.assert_allclose(features(torch.from_numpy(z)).numpy(), expected, rtol=1e-6, atol=1e-6)
    assert features.features_dim == expected.shape[1]


def test_statistics_leave_a_constant_number_alone():
    mean, scale = state_statistics(np.array([[1.0, 5.0], [3.0, 5.0]], np.float32))
    assert mean == [2.0, 5.0] and scale == [1.0, 1.0]


def test_statistics_of_another_size_are_refused():
    with pytest.raises(ValueError, match="2 numbers"):
        StandardisedState(spaces.Box(-1, 1, (2,), np.float32), mean=[0.0], scale=[1.0])
