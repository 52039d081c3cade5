"""Probes of made-up episodes by hand, and the benchmark once, small, on a model that knows nothing."""

import json

import numpy as np
import pytest

from procosm.agents.judge.ranking.members import Member
from procosm.agents.judge.ranking.paired import Truth
from procosm.benchmarks.dream.probes import ProbesConfig, Watched, pendulum_rows, probes, reacher_rows, watch
from procosm.world_model.checkpoint import load


def pendulum(lasted: list[int], steps: int, place: float, reward: float = 1.0) -> Watched:
    states = np.zeros((len(lasted), steps + 1, 4))
    states[:, :, 0] = np.linspace(0, place, steps + 1)
    there = np.arange(steps) < np.array(lasted)[:, None]
    return Watched(states, np.full((len(lasted), steps), reward), there)


def told(rows):
    return {row["metric"]: (row["value"], row["passed"]) for row in rows}


def test_a_pendulum_that_stands_where_it_is_held_passes():
    found = told(pendulum_rows("holds", 0.8, pendulum([50, 50], 50, 0.8), pendulum([50, 50], 50, 0.79)))
    assert found["share of MuJoCo's steps that the dream stands"] == (1.0, True)
    assert found["farthest place of the dreamed cart"] == pytest.approx((0.79, True))
    assert found["distance of the dreamed cart from where it is held"] == pytest.approx((0.01, True))
    assert found["reward per standing step of the dream"] == (1.0, True)


def test_one_that_falls_runs_through_the_rails_end_or_pays_too_little_does_not():
    real = pendulum([50, 50], 50, 0.8)
    fallen = told(pendulum_rows("holds", 0.8, real, pendulum([10, 50], 50, 0.8)))
    assert fallen["share of MuJoCo's steps that the dream stands"] == (pytest.approx(0.6), False)
    assert "distance of the dreamed cart from where it is held" not in fallen, "it is not held any more"
    through = told(pendulum_rows("holds", 0.8, real, pendulum([50, 50], 50, 1.28)))
    assert through["farthest place of the dreamed cart"] == (pytest.approx(1.28), False)
    cheap = told(pendulum_rows("holds", 0.8, real, pendulum([50, 50], 50, 0.8, reward=0.99)))
    assert cheap["reward per standing step of the dream"] == (pytest.approx(0.99), False)


def reacher(speed: float, drift: float, reward: float) -> Watched:
    states = np.zeros((2, 11, 10))
    states[:, :, 6] = np.linspace(0, speed, 11)
    states[:, :, 4] = np.linspace(0.1, 0.1 + drift, 11)
    return Watched(states, np.full((2, 10), reward), np.ones((2, 10), bool))


def test_an_arm_rests_turns_and_leaves_its_target_where_it_is_or_not():
    real = reacher(20.0, 0.0, -1.0)
    right = told(reacher_rows("full torque +1", real, reacher(19.0, 0.001, -1.02)))
    assert all(passed for _, passed in right.values())
    assert right["dreamed over true speed at the end"][0] == pytest.approx(0.95)
    wrong = told(reacher_rows("full torque +1", real, reacher(10.0, 0.04, -2.0)))
    assert not any(passed for _, passed in wrong.values())
    assert wrong["error of a step's reward"][0] == pytest.approx(1.0)
    assert told(reacher_rows("zero", real, reacher(0.05, 0, -1.0)))["fastest joint of a dream at rest"][1]
    assert not told(reacher_rows("zero", real, reacher(3.0, 0, -1.0)))["fastest joint of a dream at rest"][1]


def test_watching_counts_steps_as_mujoco_does(truth_checkpoint):
    task = load(truth_checkpoint).task
    seen = watch(Truth(task, 3), Member("zero", "control"), task, [4, 5, 6], 1000)
    assert 10 < seen.lasted.min() < 100, "a pendulum that is left alone falls"
    assert seen.rewards[seen.there].sum() == (seen.lasted - 1).sum(), "every step but the last earns 1"
    assert seen.states.shape[1] == seen.lasted.max() + 1


def test_the_whole_small(truth_checkpoint, tmp_path):
    result = json.loads(probes(ProbesConfig(truth_checkpoint, episodes=2, steps=3, out=tmp_path)).read_text())
    assert {row["controller"] for row in result["rows"]} == {"holds -0.8", "holds -0.6", "holds +0.6", "holds +0.8"}
    assert all(row["passed"] == (row["goal_low"] <= row["value"] <= row["goal_high"]) for row in result["rows"])
