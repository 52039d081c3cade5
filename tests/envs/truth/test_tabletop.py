"""The table on which balls are pushed where words say."""

import gymnasium as gym
import numpy as np
import pytest

import procosm.envs  # noqa: F401
from procosm.envs.truth.tabletop import COLOURS, INSTRUCTIONS, STEPS, forces, goal_reached
from procosm.world_model.errors import TaskError


@pytest.fixture(scope="module")
def table():
    env = gym.make("Procosm/TabletopTruth-v0", observation="state")
    yield env
    env.close()


def places(state: np.ndarray) -> np.ndarray:
    return state[:6].reshape(3, 2)


@pytest.mark.parametrize("instruction", INSTRUCTIONS)
def test_what_is_asked_for_comes_about_and_is_paid(table, instruction):
    begun, info = table.reset(seed=3, options={"instruction": instruction})
    assert info["instruction"] == instruction
    total, others, before = 0.0, 0.0, places(begun)
    ball = list(COLOURS).index(instruction.split()[2])
    for _ in range(STEPS):
        state, reward, *_ = table.step(forces(instruction))
        total += reward
        others += np.linalg.norm(np.delete(places(state) - before, ball, axis=0), axis=1).sum()
        before = places(state)
    assert goal_reached(places(begun), places(state)) == instruction
    way = np.array({"left": (-1, 0), "right": (1, 0), "away": (0, 1), "closer": (0, -1)}[instruction.split()[-1]])
    assert total + others == pytest.approx((places(state) - places(begun))[ball] @ way, abs=1e-5)
    assert total > 0.1


def test_nothing_and_two_things_are_no_goal(table):
    begun, _ = table.reset(seed=4)
    for action in (np.zeros(6), forces(INSTRUCTIONS[0]) + forces(INSTRUCTIONS[7])):
        table.reset(seed=4)
        for _ in range(STEPS):
            state, *_ = table.step(action)
        assert goal_reached(places(begun), places(state)) == ""


def test_the_goal_is_drawn_from_the_seed_and_a_strange_one_is_refused(table):
    drawn = [table.reset(seed=seed)[1]["instruction"] for seed in range(12)]
    assert drawn == [table.reset(seed=seed)[1]["instruction"] for seed in range(12)]
    assert set(drawn) <= set(INSTRUCTIONS) and len(set(drawn)) > 4
    with pytest.raises(TaskError, match="is no goal here"):
        table.reset(options={"instruction": "dance"})


def test_a_task_that_takes_no_words_says_so():
    env = gym.make("Procosm/InvertedPendulumTruth-v0", observation="state")
    with pytest.raises(TaskError, match="is not told anything in words"):
        env.reset(options={"instruction": "stand"})


def test_each_ball_is_seen_where_it_is():
    """In a picture from above: left is left, away is up."""
    env = gym.make("Procosm/TabletopTruth-v0", frame_size=64, camera="above", renderer="raycast")
    frame, info = env.reset(seed=5)
    for ball, (x, y) in enumerate(places(info["state"])):
        rows, columns = np.nonzero(frame[..., ball] > np.delete(frame, ball, axis=-1).max(-1) + 50.0)
        half_m = np.tan(np.radians(23)) * (1.2 - 0.09)
        assert (columns.mean() + 0.5) / 32 - 1 == pytest.approx(x / half_m, abs=0.06)
        assert 1 - (rows.mean() + 0.5) / 32 == pytest.approx(y / half_m, abs=0.06)
