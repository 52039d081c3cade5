"""What must not leak into trust: training episodes into its calibration, and surety about where a dream begins."""

import dataclasses

import numpy as np
import pytest
import torch

from procosm.envs.trust import calibrate
from procosm.envs.trust.trust import Forecasts, Watch
from procosm.world_model.data.episodes import Episode
from tests.envs.trust.test_trust import PUSH, episode


def pushed(seed: int, kind: str, strength: float) -> Episode:
    """An episode in which actions push so many times as hard; its frames count at its start only."""
    made = episode(seed, 20, kind)
    z = [made.signals["state"][0, 0]]
    for action in made.actions[:, 0]:
        z.append(0.9 * z[-1] + strength * PUSH[0] * action)
    values = np.array(z, np.float32)
    states = np.stack([values, np.diff(values, prepend=values[0])], axis=1).astype(np.float32)
    return dataclasses.replace(made, signals=made.signals | {"state": states})


def test_trust_means_what_it_says_of_episodes_that_were_not_trained_on(linear_world, monkeypatch):
    """The dream is right about the training episodes and wrong about the held-out ones, where every push is thrice as
    hard: whoever calibrates on what was trained on promises that all is well."""
    monkeypatch.setattr(calibrate, "STEPS", 300)
    trained = [pushed(seed, "train", 1.0) for seed in range(40)]
    forecasts = calibrate.fit(linear_world, trained + [pushed(seed, "holdout", 3.0) for seed in range(100, 130)])
    fresh = calibrate.dream_again(linear_world, [pushed(seed, "holdout", 3.0) for seed in range(200, 230)])
    good = ((fresh.dreamed - fresh.true) / forecasts.std).square().mean(2).sqrt() <= forecasts.bound
    watch = Watch(dict(forecasts.state_dict()), len(fresh.actions))
    watch.begin(torch.arange(len(fresh.actions)), fresh.dreamed[:, 0])
    told = torch.stack([watch.advance(fresh.actions[:, t], fresh.dreamed[:, t + 1]) for t in range(20)], dim=1)
    there = fresh.there[:, 1:21]
    share, trust = float(good[:, 1:21][there].float().mean()), float(told[there].mean())
    assert share < 0.6 and trust == pytest.approx(share, abs=0.15)


def test_forecasts_begin_with_the_errors_of_what_is_read_from_real_frames(linear_world, monkeypatch):
    """Frames show half a grey level at most, so that the speed that is read is wrong by a known deviation."""
    monkeypatch.setattr(calibrate, "STEPS", 1)
    monkeypatch.setattr(calibrate, "MEMBERS", 200)
    episodes = [episode(seed, 20, "train" if seed < 10 else "holdout") for seed in range(60)]
    forecasts = calibrate.fit(linear_world, episodes)
    assert torch.allclose(forecasts.start_errors.mean(0), torch.zeros(2), atol=1e-7), "in opposite pairs"
    dreams = calibrate.dream_again(linear_world, episodes[10:])
    read = (dreams.true[:, 0] - dreams.dreamed[:, 0]) / forecasts.std
    expected = calibrate.START_SHARE * 1.4826 * read.abs().median(0).values
    assert (expected > 1e-3).all()
    assert torch.allclose(forecasts.start_errors.std(0), expected, rtol=0.25)


def test_a_dream_is_watched_from_several_plausible_starts():
    forecasts = Forecasts(4, 2, 1, 8)
    forecasts.std.fill_(2.0)
    forecasts.start_errors.copy_(torch.tensor([[0.1, 0.0], [-0.1, 0.0], [0.0, 0.2], [0.0, -0.2]]))
    forecasts.calibration.copy_(torch.tensor([1.0, 0.0, 1.0]))
    watch = Watch(dict(forecasts.state_dict()), 3)
    watch.begin(torch.tensor([1]), torch.tensor([[4.0, 2.0]]))
    assert torch.allclose(watch.forecasts(1), torch.tensor([[2.1, 1.0], [1.9, 1.0], [2.0, 1.2], [2.0, 0.8]]))
