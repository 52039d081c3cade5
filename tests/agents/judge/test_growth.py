"""The growth test in a world whose growth is known: 1 when right, one half when the truth moved twice as far."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from procosm.agents.judge import evaluate
from procosm.agents.judge.growth import features_reading, growth, state_deviation, state_reading
from procosm.world_model.data.windows import tabulate
from procosm.world_model.errors import DatasetError
from procosm.world_model.evaluation.growth import DECIDING, reading_noise
from procosm.world_model.interface import Prediction
from procosm.world_model.training import growth as training_growth
from procosm.world_model.training.recipes import Training
from tests.agents.conftest import linear_episode
from tests.conftest import InstructedDynamics, LinearDynamics, LinearMemory


def test_a_perfect_model_grows_at_the_right_rate(linear_world, constant_episodes):
    rows = growth(linear_world, constant_episodes, state_reading(state_deviation(constant_episodes)), 10)
    assert [row["horizon"] for row in rows] == list(range(1, 11)) and rows[0]["n"] == 12
    # Frames are rounded to 1/20 of a unit, which matters less the further the state has moved.
    assert rows[-1]["slope"] == pytest.approx(1.0, abs=0.05)
    assert rows[-1]["correlation"] > 0.99 and rows[-1]["relative_error"] < 0.1
    assert all(row["low"] <= row["slope"] <= row["high"] for row in rows)


def test_half_the_growth_reads_as_half(linear_world, constant_episodes):
    twice = [
        dataclasses.replace(episode, signals=episode.signals | {"state": 2 * episode.signals["state"]})
        for episode in constant_episodes
    ]
    row = growth(linear_world, twice, state_reading(state_deviation(twice)), 10)[-1]
    assert row["slope"] == pytest.approx(0.5, abs=0.03)
    assert row["relative_error"] == pytest.approx(0.5, abs=0.05)


def test_a_model_that_stands_still_has_no_slope(linear_world, constant_episodes):
    class Still:
        context = 3
        readouts = frozenset({"state"})
        begin, read = linear_world.dynamics.begin, linear_world.dynamics.read

        def step(self, memory, action):
            return memory, Prediction(memory.newest, self.read(memory))

    still = dataclasses.replace(linear_world, dynamics=Still())
    first_number = np.array([1.0, 1e6])  # the second, a velocity, does change when motion stops
    row = growth(still, constant_episodes, state_reading(first_number), 6)[-1]
    assert row["slope"] == pytest.approx(0.0, abs=1e-3) and row["relative_error"] == pytest.approx(1.0, abs=1e-3)


def test_a_number_that_never_varies_counts_as_it_is(constant_episodes):
    flat = [
        dataclasses.replace(e, signals=e.signals | {"state": np.ones_like(e.signals["state"])})
        for e in constant_episodes
    ]
    assert state_deviation(flat).tolist() == [1.0, 1.0]


def test_without_long_enough_episodes_there_is_no_test(linear_world, linear_episodes):
    short = [dataclasses.replace(e, actions=e.actions[:1]) for e in linear_episodes]
    with pytest.raises(DatasetError, match="outlasts"):
        growth(linear_world, short, state_reading(np.ones(2)), 4)


class Featured(LinearDynamics):
    """The linear world, its four numbers read as features; it moves so many times as fast, and is pushed so hard."""

    readouts = frozenset({"features"})

    def __init__(self, speed: float = 1.0, push: float = 1.0) -> None:
        self.speed, self.push = speed, push

    def read(self, memory):
        return {"features": memory.newest.flatten(1)}

    def step(self, memory, action, draws=None, sampling=None):
        after = super().step(memory, self.push * action)[1].latents
        latent = memory.newest + self.speed * (after - memory.newest)
        return LinearMemory(latent, memory.newest), Prediction(latent, {"features": latent.flatten(1)})


def unstated(kind, seeds, noise, rng):
    """Episodes of the linear world without states, each quarter of each frame off by so many grey levels."""
    made = []
    for seed in seeds:
        episode = linear_episode(seed, 20, kind)
        off = np.rint(rng.normal(0, noise, (21, 2, 2))).repeat(20, axis=1).repeat(20, axis=2)[..., None]
        frames = np.clip(episode.frames + off, 0, 255).astype(np.uint8)
        made.append(dataclasses.replace(episode, frames=frames, signals={"reward": episode.signals["reward"]}))
    return made


@pytest.fixture(scope="module")
def noisy():
    """A hundred episodes to train on, eighty held out, forty of which judge; 2 grey levels of noise are .1 unit."""
    rng = np.random.default_rng(0)
    return unstated("train", range(100), 2, rng) + unstated("holdout", range(100, 180), 2, rng)


def judged(episodes, model):
    config = evaluate.EvaluateConfig(Path("run"), horizon=6, windows=16)
    assert evaluate._grown(model, episodes) == {"read": "features", "episodes": "holdout"}
    return evaluate._parts(config, model, None, episodes)["growth"]()


def test_without_states_features_are_judged_and_their_noise_is_not(linear_world, noisy):
    right = judged(noisy, dataclasses.replace(linear_world, dynamics=Featured()))
    assert len(right) >= 4 and all(row["n"] == 40 and row["low"] <= row["slope"] <= row["high"] for row in right)
    assert all(row["slope"] == pytest.approx(1, abs=0.15) and row["relative_error"] < 0.5 for row in right)
    assert all(0.02 < row["noise"] < 0.2 for row in right)
    still = judged(noisy, dataclasses.replace(linear_world, dynamics=Featured(speed=0.0)))
    assert all(row["slope"] == 0 and row["relative_error"] == pytest.approx(1, abs=0.1) for row in still)
    inverted = judged(noisy, dataclasses.replace(linear_world, dynamics=Featured(push=-1.0)))
    assert len(inverted) == len(right) and all(row["relative_error"] > 1 for row in inverted)


def test_judgement_and_training_measure_the_same(linear_world, noisy, tmp_path):
    world = dataclasses.replace(linear_world, dynamics=Featured(speed=0.7))
    parts = {kind: [each for each in noisy if each.kind == kind] for kind in ("train", "holdout")}
    tables = {kind: tabulate(noisy, kind, Featured.context) for kind in parts}
    encoded = {kind: world.encode(np.concatenate([each.frames for each in part])) for kind, part in parts.items()}
    trained = Training(world.tokenizer, world.dynamics, tables, 0, tmp_path, encoded=encoded)
    expected = training_growth.growth(trained, horizon=6)
    found = growth(world, parts["holdout"][DECIDING], features_reading(world, parts["train"]), 6)
    assert len(found) == len(expected) >= 4
    for mine, theirs in zip(found, expected, strict=True):
        assert [mine["horizon"], mine["n"]] == [theirs["horizon"], theirs["n"]]
        for name, other in (("relative_error", "error"), ("slope", "slope"), ("noise", "noise")):
            assert mine[name] == pytest.approx(theirs[other], rel=1e-4)


def test_a_model_of_words_grows_as_it_was_asked_to(linear_world, constant_episodes):
    world, read = dataclasses.replace(linear_world, dynamics=InstructedDynamics()), state_reading(np.array([1.0, 1e6]))
    for text, slope in (("go", 1.0), ("", 0.0)):
        asked = [dataclasses.replace(episode, text=text) for episode in constant_episodes]
        assert growth(world, asked, read, 10)[-1]["slope"] == pytest.approx(slope, abs=0.05)


def test_noise_is_the_same_where_the_newest_episodes_are_drawn_more_often(linear_world, noisy):
    train = [each for each in noisy if each.kind == "train"]
    latents, table = linear_world.encode(np.concatenate([each.frames for each in train])), tabulate(train, "train", 3)
    found, again = (
        reading_noise(Featured(), "features", each, latents) for each in (table, table.with_half_from(2 * 21))
    )
    assert found.tolist() == again.tolist()
