"""Frames that answer late, early or not at all are told from those that answer; clocks are read to the step."""

import numpy as np
import pytest

from procosm.world_model.curation.agreement import ActionModel, fold
from procosm.world_model.curation.consistency import clock_drift, compare, largest_gap, longest_still
from procosm.world_model.curation.inverse import Sample, small
from tests.world_model.curation import scenes

WEIGHTS = np.ones(2)


@pytest.mark.parametrize("lag", [-4, -1, 0, 1, 3])
def test_the_lag_of_actions_is_found_to_the_step(lag):
    rng = np.random.default_rng(lag + 10)
    true = rng.normal(size=(60, 2))
    seen = true + 0.5 * rng.normal(size=true.shape)
    logged = np.roll(true, -lag, axis=0)  # a lag of 1: the frames answer one step after the action was logged
    answer = compare(logged, seen, WEIGHTS)
    assert answer.lag == lag
    assert (answer.gain > 0.5) == (lag != 0) and (answer.agreement > 0.7) == (lag == 0)


def test_shuffled_actions_agree_at_no_lag():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(200, 2))
    answer = compare(rng.permutation(true), true, WEIGHTS)
    assert abs(answer.agreement) < 0.2 and answer.gain < 0.4


def test_actions_that_cannot_be_told_have_no_say():
    rng = np.random.default_rng(1)
    true = rng.normal(size=(60, 2))
    seen = np.stack([true[:, 0], rng.normal(size=60)], 1)
    assert compare(true, seen, np.array([1.0, 0.0])).agreement == pytest.approx(1)


def test_a_picture_that_stands_still_is_frozen_only_while_actions_change():
    change, actions = np.full(20, 3.0), np.linspace(0, 1, 20)[:, None]
    change[5:13] = 0
    assert longest_still(change, actions) == 8 / 20
    assert longest_still(change, np.ones((20, 1))) == 0


def test_gaps_and_drift_are_counted_in_steps():
    times = np.arange(20) * 0.05
    assert largest_gap(times, 0.05) == pytest.approx(0) and clock_drift(times, 0.05) == pytest.approx(0, abs=1e-9)
    assert largest_gap(np.delete(times, [7, 8]), 0.05) == pytest.approx(2)
    assert clock_drift(times * 1.1, 0.05) == pytest.approx(1.9)


def brightening(seed: int) -> Sample:
    """A film whose whole picture brightens by each action."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (24, 1)).astype(np.float32)
    light = 128 + 20 * np.append(0, np.cumsum(actions)) + np.zeros((32, 32, 1))
    return Sample(light.clip(0, 255).astype(np.uint8).transpose(2, 0, 1), actions)


def test_a_model_of_the_logs_themselves_finds_the_shuffled_ones(tmp_path):
    films, wrong = {f"log-{seed}": brightening(seed) for seed in range(14)}, ("log-3", "log-8")
    rng = np.random.default_rng(3)
    films |= {name: Sample(films[name].pictures, rng.permutation(films[name].actions)) for name in wrong}
    assert len({fold(name) for name in films}) == 2
    model = ActionModel.learn(films.items(), 1, seed=0, steps=40)
    model.save(tmp_path / "actions.safetensors")
    again = ActionModel.load(tmp_path / "actions.safetensors", (32, 32))
    agreement = {}
    for name, film in films.items():
        frames = film.pictures[..., None].repeat(3, 3)
        answer = model.judge(name, frames, film.actions)
        assert answer == again.judge(name, frames, film.actions)
        agreement[name] = answer.agreement
    assert set(sorted(agreement, key=agreement.get)[:2]) == set(wrong), agreement


def test_too_few_logs_are_not_judged():
    episode = scenes.episode(0)
    model = ActionModel.learn([("one", Sample(small(episode.frames), episode.actions))], 2, 0, 100)
    assert model.judge("one", episode.frames, episode.actions) is None
