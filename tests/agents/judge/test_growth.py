"""The growth test in a world whose growth is known: 1 when right, one half when the truth moved twice as far."""

import dataclasses

import numpy as np
import pytest

from procosm.agents.judge.growth import growth, state_deviation
from procosm.world_model.errors import DatasetError
from procosm.world_model.interface import Prediction


def test_a_perfect_model_grows_at_the_right_rate(linear_world, constant_episodes):
    rows = growth(linear_world, constant_episodes, 10, state_deviation(constant_episodes))
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
    row = growth(linear_world, twice, 10, state_deviation(twice))[-1]
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
    row = growth(still, constant_episodes, 6, first_number)[-1]
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
        growth(linear_world, short, 4, np.ones(2))
