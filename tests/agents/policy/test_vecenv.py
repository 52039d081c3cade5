"""The SB3 adapter against SB3's own DummyVecEnv of single dreams, and PPO on top of it."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers.vector import RecordEpisodeStatistics
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor

from procosm.agents.policy.vecenv import WorldModelVecEnv
from procosm.envs.dreams.world import WorldModelEnv
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
from procosm.world_model.errors import TaskError

SLOTS, STEPS = 5, 40


def adapted(world, slots: int = SLOTS, **options) -> WorldModelVecEnv:
    return WorldModelVecEnv(WorldModelVectorEnv(world, slots, autoreset_mode="SAME_STEP", **options))


def assert_observed_same(ours, theirs) -> None:
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for kind in theirs:
            assert_observed_same(ours[kind], theirs[kind])
    else:
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("observation", ["pixels", "state", ("latent", "state")])
def test_equals_sb3s_own_vec_env_of_single_dreams(linear_world, observation):
    ours = adapted(linear_world, observation=observation)
    theirs = DummyVecEnv([lambda: WorldModelEnv(linear_world, observation=observation)] * SLOTS)
    assert (ours.observation_space, ours.action_space) == (theirs.observation_space, theirs.action_space)
    assert ours.seed(9) == theirs.seed(9)
    assert_observed_same(ours.reset(), theirs.reset())
    actions = np.random.default_rng(0).normal(0.5, 0.8, (STEPS, SLOTS, 1))
    cut_off = ended = 0
    for step in actions:
        observed, rewards, dones, infos = ours.step(step)
        expected, their_rewards, their_dones, their_infos = theirs.step(step)
        assert_observed_same(observed, expected)
        np.testing.assert_allclose(rewards, their_rewards, atol=1e-6)
        assert rewards.dtype == their_rewards.dtype == np.float32
        assert dones.tolist() == their_dones.tolist()
        for slot in range(SLOTS):
            assert_infos_same(ours.reset_infos[slot], theirs.reset_infos[slot])
            if dones[slot]:
                assert infos[slot]["TimeLimit.truncated"] is bool(their_infos[slot]["TimeLimit.truncated"])
                assert_observed_same(infos[slot]["terminal_observation"], their_infos[slot]["terminal_observation"])
                np.testing.assert_allclose(infos[slot]["state"], their_infos[slot]["state"], atol=1e-5)
                cut_off += infos[slot]["TimeLimit.truncated"]
                ended += not infos[slot]["TimeLimit.truncated"]
            else:
                assert infos[slot] == {}
    assert cut_off >= 5 and ended >= 5, "both kinds of ending must have occurred"


def assert_infos_same(ours: dict, theirs: dict) -> None:
    assert ours.keys() == theirs.keys() == {"state", "start"}
    assert ours["start"] == theirs["start"]
    np.testing.assert_allclose(ours["state"], theirs["state"], atol=1e-5)


def test_slots_that_go_on_share_one_empty_dict_for_ever(linear_world):
    env = adapted(linear_world, observation="state")
    env.seed(0)
    env.reset()
    going_on = set()
    for _ in range(20):
        _, _, dones, infos = env.step(np.zeros((SLOTS, 1), np.float32))
        going_on |= {id(info) for info, done in zip(infos, dones, strict=True) if not done}
        assert all(info == {} for info, done in zip(infos, dones, strict=True) if not done)
    assert len(going_on) == 1


def test_seeds_and_options_hold_for_one_reset(linear_world):
    env = adapted(linear_world, observation="latent")
    env.set_options({"start": 3})
    env.reset()
    assert [info["start"] for info in env.reset_infos] == [3] * SLOTS
    env.set_options([{"start": slot} if slot % 2 else {} for slot in range(SLOTS)])
    env.seed(1)
    first = env.reset()
    assert [env.reset_infos[slot]["start"] for slot in (1, 3)] == [1, 3]
    assert not np.array_equal(env.reset(), first), "a seed is used once"
    env.seed(1)
    again = env.reset()
    assert np.array_equal(again[::2], first[::2]) and not np.array_equal(again[1], first[1])


def test_attributes_and_methods_are_the_batchs_own(linear_world):
    env = adapted(linear_world)
    assert env.get_attr("task") == [linear_world.task] * SLOTS
    assert env.get_attr("num_envs", [0, 2]) == [SLOTS, SLOTS]
    assert env.has_attr("render_mode") and not env.has_attr("wheels")
    env.set_attr("colour", "red")
    assert env.get_attr("colour", 1) == ["red"]
    with pytest.raises(TaskError, match="all 5 slots"):
        env.set_attr("colour", "blue", indices=[0])
    assert env.env_method("render", indices=[0, 1]) == [None, None]
    assert env.env_is_wrapped(gym.wrappers.TimeLimit) == [False] * SLOTS
    env.close()
    assert env.env.closed


def test_images_are_tiled(linear_world):
    env = adapted(linear_world, slots=4, render_mode="rgb_array", observation="latent")
    env.reset()
    assert env.render_mode == "rgb_array"
    assert np.array_equal(env.get_images()[3], env.env.render()[3])
    assert env.render().shape == (80, 80, 3)
    assert adapted(linear_world, slots=2).get_images() == [None, None]


def test_only_same_step_reset_is_taken(linear_world):
    with pytest.raises(TaskError, match='autoreset_mode="SAME_STEP"'):
        WorldModelVecEnv(WorldModelVectorEnv(linear_world, 2))


def test_vec_monitor_and_frame_stack_fit(linear_world):
    env = VecMonitor(VecFrameStack(adapted(linear_world), 2, channels_order="last"))
    assert env.reset().shape == (SLOTS, 40, 40, 6)
    lengths = []
    for _ in range(21):
        _, _, _, infos = env.step(np.zeros((SLOTS, 1), np.float32))
        lengths += [info["episode"]["l"] for info in infos if "episode" in info]
    assert lengths == [7] * 3 * SLOTS


def test_ppo_learns_to_push_the_mean_up(linear_world):
    """Reward is the mean of z', pushed up by a positive action: without learning the action's mean stays near 0."""
    batch = WorldModelVectorEnv(linear_world, 16, observation="state", autoreset_mode="SAME_STEP")
    env = WorldModelVecEnv(RecordEpisodeStatistics(batch))
    policy = PPO("MlpPolicy", env, n_steps=28, batch_size=112, learning_rate=3e-3, gamma=0.9, seed=0, device="cpu")
    policy.learn(16 * 28 * 12)
    assert policy.ep_info_buffer, "episode returns reach SB3's logger"
    state = np.random.default_rng(0).normal(0, 0.3, (64, 2)).astype(np.float32)
    assert policy.predict(state, deterministic=True)[0].mean() > 0.5
