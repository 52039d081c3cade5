"""Render modes: what Gymnasium does with them for its own environments it does for a dream and for its twin."""

import gymnasium as gym
import numpy as np
import pytest

import procosm.envs  # noqa: F401  (registers the ids)
from procosm.world_model.errors import TaskError

SIDES = ("truth", "dream", "perceived")


@pytest.fixture
def make(truth_checkpoint):
    """Makes the environment of a side in a render mode."""
    there = str(truth_checkpoint)
    ids = {
        "truth": {"id": "Procosm/InvertedPendulumTruth-v0"},
        "dream": {"id": "Procosm/InvertedPendulum-v0", "checkpoint": there},
        "perceived": {"id": "Procosm/Truth-v0", "checkpoint": there},
    }
    return lambda side, mode: gym.make(**ids[side], render_mode=mode)


@pytest.mark.parametrize("side", SIDES)
def test_a_list_collects_the_frames_since_it_was_asked_for_last(make, side):
    env, single = make(side, "rgb_array_list"), make(side, "rgb_array")
    assert env.render_mode == "rgb_array_list"
    expected = []
    for begin in (env, single):
        begin.reset(seed=0)
    expected.append(single.render())
    for _ in range(2):
        for each in (env, single):
            each.step(0.1 * env.action_space.high)
        expected.append(single.render())
    np.testing.assert_array_equal(env.render(), expected)
    assert env.render() == []


@pytest.mark.parametrize("side", SIDES)
def test_no_mode_renders_nothing(make, side):
    env = make(side, None)
    env.reset(seed=0)
    assert env.unwrapped.render() is None


@pytest.mark.parametrize("side", SIDES)
def test_human_is_gymnasiums_own_window(make, side):
    with pytest.warns(UserWarning, match="HumanRendering wrapper is being applied"):
        env = make(side, "human")
    assert isinstance(env, gym.wrappers.HumanRendering) and env.render_mode == "human"


@pytest.mark.parametrize("mode", ["ansi", "depth_array", "nonsense", "ansi_list"])
@pytest.mark.parametrize("side", SIDES)
def test_other_modes_are_refused_by_name(make, side, mode):
    with pytest.warns(UserWarning, match="not in the possible render_modes"), pytest.raises(TaskError, match=mode):
        make(side, mode)


def test_a_vector_of_truth_envs_collects_frames():
    envs = gym.make_vec("Procosm/ReacherTruth-v0", 2, vectorization_mode="sync", render_mode="rgb_array_list")
    envs.reset(seed=0)
    envs.step(np.zeros((2, 2), np.float32))
    assert [len(frames) for frames in envs.render()] == [2, 2]
    envs.close()
