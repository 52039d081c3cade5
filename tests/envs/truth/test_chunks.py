"""A twin in steps of several frames, beside the same task stepped one by one."""

import gymnasium as gym
import numpy as np
import pytest

from procosm.world_model.errors import TaskError

ID = "procosm.envs:Procosm/InvertedPendulumTruth-v0"


def test_a_step_is_as_many_of_the_tasks_own():
    whole, single = gym.make(ID, frames_per_step=3, frame_size=32), gym.make(ID, frame_size=32)
    assert whole.action_space.shape == (3, 1) and whole.spec.max_episode_steps in (None, 334)
    _, info = whole.reset(seed=3)
    first, _ = single.reset(seed=3)
    assert info["frames"].shape == (3, 32, 32, 3) and all(np.array_equal(frame, first) for frame in info["frames"])
    actions = np.random.default_rng(0).uniform(-3, 3, (30, 3, 1)).astype(np.float32)
    ended = False
    for action in actions:
        seen, reward, ended, cut, info = whole.step(action)
        rewards, frames, over = [], [], False
        for each in action:
            if not over:
                one, paid, over, *_ = single.step(each)
                rewards.append(paid)
            frames.append(one)
        assert reward == pytest.approx(sum(rewards)) and (ended, cut) == (over, False)
        assert np.array_equal(info["frames"], np.stack(frames)) and np.array_equal(seen, frames[-1])
        if ended:
            break
    assert ended  # at random the pole falls, in the middle of a step or at its end
    whole.close()
    single.close()


def test_episodes_are_cut_after_as_many_frames_as_the_tasks_own():
    env = gym.make(ID, frames_per_step=400, frame_size=32, disable_env_checker=True)
    env.reset(seed=0)
    env.unwrapped._simulator.step = lambda action: (np.zeros(4, np.float32), 1.0, False, False)
    env.unwrapped._observe = lambda: None
    env.unwrapped.render = lambda: np.zeros((32, 32, 3), np.uint8)
    cuts = [env.step(np.zeros((400, 1), np.float32))[3] for _ in range(3)]
    assert cuts == [False, False, True]
    env.close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"frames_per_step": 1}, "frames_per_step=1: give a whole number of frames from 2 up"),
        ({"frames_per_step": 2.5}, "frames_per_step=2.5"),
    ],
)
def test_what_is_no_number_of_frames_is_refused(settings, told):
    with pytest.raises(TaskError, match=told):
        gym.make(ID, **settings)


def test_actions_of_another_shape_and_a_checkpoint_beside_it_are_refused(truth_checkpoint):
    env = gym.make(ID, frames_per_step=2, frame_size=32, disable_env_checker=True)
    env.reset(seed=0)
    with pytest.raises(TaskError, match=r"actions of shape \(1,\): a step here takes \(2, 1\)"):
        env.step(np.zeros(1, np.float32))
    env.close()
    with pytest.raises(TaskError, match="a checkpoint that has a twin takes steps of one frame"):
        gym.make("procosm.envs:Procosm/Truth-v0", checkpoint=truth_checkpoint, frames_per_step=2)
