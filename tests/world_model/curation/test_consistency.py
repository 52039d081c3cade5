"""Frames that answer late, early or not at all are told from those that answer; clocks are read to the step."""

import numpy as np
import pytest
import torch

from procosm.world_model.curation.agreement import LEAST_POWER, ActionModel
from procosm.world_model.curation.consistency import clock_drift, compare, longest_still, standing_out
from procosm.world_model.curation.filter import FilterConfig
from procosm.world_model.curation.inverse import Sample, small, solve
from tests.world_model.curation import scenes

EVIDENCE = np.ones(2)


@pytest.mark.parametrize("lag", [-4, -1, 0, 1, 3])
def test_the_lag_of_actions_is_found_to_the_step(lag):
    rng = np.random.default_rng(lag + 10)
    true = rng.normal(size=(60, 2))
    seen = true + 0.5 * rng.normal(size=true.shape)
    logged = np.roll(true, -lag, axis=0)  # a lag of 1: the frames answer one step after the action was logged
    answer = compare(logged, seen, EVIDENCE, 10)
    assert answer.lag == lag
    assert (answer.gain > 0.5) == (lag != 0) and (answer.agreement > 0.7) == (lag == 0)


def test_shuffled_actions_agree_at_no_lag():
    rng = np.random.default_rng(0)
    true = rng.normal(size=(200, 2))
    answer = compare(rng.permutation(true), true, EVIDENCE, 10)
    assert abs(answer.agreement) < 0.3 and answer.gain < 0.4


def test_actions_that_cannot_be_told_have_no_say():
    rng = np.random.default_rng(1)
    true = rng.normal(size=(60, 2))
    seen = np.stack([true[:, 0], rng.normal(size=60)], 1)
    alone = compare(true[:, :1], seen[:, :1], np.ones(1), 10).agreement
    assert compare(true, seen, np.array([1.0, 0.0]), 10).agreement == pytest.approx(alone)


def test_agreement_is_in_deviations_of_shuffled_actions():
    rng = np.random.default_rng(2)
    mixed = rng.normal(size=(3, 3))
    logged, seen = rng.normal(size=(30, 3)) @ mixed, rng.gamma(1, size=(30, 3)) @ mixed
    evidence = np.array([0.3, 2.0, 1.0])

    def product(actions):
        return float(((actions - actions.mean(0)) * (seen - seen.mean(0)) * evidence).sum())

    shuffled = [product(rng.permutation(logged)) for _ in range(20_000)]
    expected = (product(logged) - np.mean(shuffled)) / np.std(shuffled)
    assert standing_out(logged, seen, evidence) == pytest.approx(expected, abs=0.05)


def test_a_picture_that_stands_still_is_frozen_only_while_actions_change():
    change, actions = np.full(20, 3.0), np.linspace(0, 1, 20)[:, None]
    change[5:13] = 0
    assert longest_still(change, actions) == 8 / 20
    assert longest_still(change, np.ones((20, 1))) == 0


def test_drift_is_counted_in_steps():
    times = np.arange(20) * 0.05
    assert clock_drift(times, 0.05) == pytest.approx(0, abs=1e-9)
    assert clock_drift(times * 1.1, 0.05) == pytest.approx(1.9)


def brightening(seed: int) -> Sample:
    """A film whose whole picture brightens by each action."""
    rng = np.random.default_rng(seed)
    actions = rng.uniform(-1, 1, (24, 1)).astype(np.float32)
    light = 128 + 20 * np.append(0, np.cumsum(actions)) + np.zeros((32, 32, 1))
    return Sample(light.clip(0, 255).astype(np.uint8).transpose(2, 0, 1), actions)


def learned(films: dict[str, Sample]) -> ActionModel:
    return ActionModel.learn(((n, Sample(small(colour(f)), f.actions)) for n, f in films.items()), 1)


def colour(film: Sample) -> np.ndarray:
    return film.pictures[..., None].repeat(3, 3)


def shuffled(film: Sample, rng: np.random.Generator) -> Sample:
    return Sample(film.pictures, rng.permutation(film.actions))


def test_a_model_of_the_logs_themselves_finds_the_shuffled_ones(tmp_path):
    films, wrong = {f"log-{seed}": brightening(seed) for seed in range(14)}, ("log-3", "log-5", "log-8", "log-11")
    rng = np.random.default_rng(3)
    films |= {name: shuffled(films[name], rng) for name in wrong}
    model = learned(films)
    model.save(tmp_path / "actions.safetensors")
    again = ActionModel.load(tmp_path / "actions.safetensors")
    agreement = {}
    for name, film in films.items():
        answer = model.judge(name, colour(film), film.actions)
        assert answer == again.judge(name, colour(film), film.actions)
        agreement[name] = answer.agreement
    assert {name for name, value in agreement.items() if value < FilterConfig.agreement} == set(wrong), agreement
    film = brightening(99)  # of logs that nothing was learned from, one in each fold
    assert all(model.judge(f"new-{index}", colour(film), film.actions).agreement > 0.8 for index in range(60))


def test_an_action_that_never_changes_says_nothing():
    films = {f"log-{seed}": brightening(seed) for seed in range(14)}
    fixed = {n: Sample(small(colour(f)), np.hstack([f.actions, np.full((24, 1), 0.3, "f")])) for n, f in films.items()}
    model = ActionModel.learn(fixed.items(), 2)
    assert model.told[0] > 0.9 and model.told[1] == model.evidence[1] == 0


def test_logs_whose_frames_do_not_tell_actions_are_not_judged():
    rng = np.random.default_rng(4)
    films = {f"log-{seed}": shuffled(brightening(seed), rng) for seed in range(14)}
    model = learned(films)
    assert model.told.max() < 0.3
    assert {model.judge(name, colour(film), film.actions) for name, film in films.items()} == {None}


def test_short_clips_are_not_judged_where_frames_tell_little():
    rng = np.random.default_rng(5)
    films = {f"log-{seed}": brightening(seed) for seed in range(14)}
    noise = {n: Sample(f.pictures, f.actions + 2 * rng.normal(size=(24, 1)).astype("f")) for n, f in films.items()}
    model = learned(noise)
    assert 0 < model.rate < 0.9
    needed = int(np.ceil((LEAST_POWER / model.rate) ** 2))
    film = noise["log-1"]
    long = Sample(np.resize(film.pictures, (needed + 1, 32, 32)), np.resize(film.actions, (needed, 1)))
    assert model.judge("log-1", colour(long)[:needed], long.actions[: needed - 1]) is None
    assert model.judge("log-1", colour(long), long.actions) is not None


def test_estimates_of_a_fold_are_those_of_regression_without_it():
    rng = np.random.default_rng(6)
    places, actions = torch.from_numpy(rng.normal(size=(30, 4))), torch.from_numpy(rng.normal(size=(30, 2)))
    noise, folds = torch.from_numpy(rng.uniform(0.5, 2, 30)), torch.arange(30) % 3
    likeness = torch.exp(-torch.cdist(places, places).square() / 4)
    weights = solve(likeness, noise, actions, folds, 4)
    for fold_ in range(3):
        rest = folds != fold_
        alone = torch.linalg.solve(likeness[rest][:, rest] + torch.diag(noise[rest]), actions[rest])
        torch.testing.assert_close(likeness @ weights[fold_], likeness[:, rest] @ alone)
    torch.testing.assert_close(
        likeness @ weights[3], likeness @ torch.linalg.solve(likeness + torch.diag(noise), actions)
    )


def test_one_log_alone_is_not_judged():
    episode = scenes.episode(0, 300)
    model = ActionModel.learn([("one", Sample(small(episode.frames), episode.actions))], 2)
    assert model.judge("one", episode.frames, episode.actions) is None
