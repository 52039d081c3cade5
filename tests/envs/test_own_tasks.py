"""Tasks of one's own: whatever Gymnasium makes of a name is what is stepped, and only the renderer is ours."""

import gymnasium as gym
import numpy as np
import pytest

from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.data.episodes import load_episodes
from procosm.world_model.errors import TaskError
from tests.envs import own_tasks
from tests.envs.truth.test_mujoco import rollout

HERE = own_tasks.HERE
NAMES = ("Bare", "Told", "Parts", "Cut", "Limited", "Wrapped", "Stacked")


@pytest.mark.parametrize("name", NAMES)
def test_states_rewards_and_ends_are_gymnasiums_own_wrappers_and_all(name):
    env, theirs = (
        MujocoEnv(f"{HERE}:{name}-v0", observation=("pixels", "state")),
        gym.make(f"{name}-v0", disable_env_checker=True),
    )
    rng = np.random.default_rng(0)
    state, true = env.reset(seed=4)[0]["state"], theirs.reset(seed=4)[0]
    for _ in range(12):
        np.testing.assert_array_equal(state, gym.spaces.flatten(theirs.observation_space, true).astype(np.float32))
        action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
        seen, reward, terminated, truncated, info = env.step(action)
        true, true_reward, true_end, true_cut, _ = theirs.step(action)
        assert (reward, terminated, truncated) == (true_reward, true_end, true_cut)
        assert seen["pixels"].std() > 5 and info["state"].shape == env.observation_space["state"].shape
        state = seen["state"]
        if truncated:
            break
    assert env.action_space == gym.spaces.Box(theirs.action_space.low, theirs.action_space.high, dtype=np.float32)
    assert truncated == (name in ("Cut", "Limited"))


@pytest.mark.parametrize("name", NAMES)
def test_a_control_step_lasts_as_long_as_the_simulated_clock_says(name):
    env = MujocoEnv(f"{HERE}:{name}-v0", observation="state", action_repeat=2)
    env.reset(seed=0)
    before = env.simulator.data.time
    env.step(env.action_space.high)
    assert env.task.dt_s == pytest.approx(env.simulator.data.time - before) == pytest.approx(2 * 4 * 0.02)


def test_an_own_cut_ends_a_repeated_action_and_gymnasiums_limit_does_not_bind():
    env = MujocoEnv(f"{HERE}:Cut-v0", observation="state", action_repeat=2)
    env.reset(seed=0)
    assert [env.step(env.action_space.high)[3] for _ in range(4)] == [False, False, False, True]
    endless = MujocoEnv(f"{HERE}:Told-v0", observation="state", max_episode_steps=60)
    endless.reset(seed=0)
    assert [endless.step(endless.action_space.high)[3] for _ in range(60)] == [False] * 59 + [True]
    assert MujocoEnv(f"{HERE}:Told-v0", observation="state").task.max_episode_steps == 50


@pytest.mark.parametrize("name", ["Told", "Wrapped"])
def test_a_physics_state_gives_back_the_observation_through_the_wrappers(name):
    env = MujocoEnv(f"{HERE}:{name}-v0", observation="state")
    _, info = env.reset(seed=2)
    again, _ = env.reset(options={"physics": info["physics"]})
    np.testing.assert_array_equal(again, info["state"])


@pytest.mark.parametrize("name", ["Bare", "Stacked"])
def test_a_task_that_cannot_tell_its_state_says_so_and_can_be_put_anywhere(name):
    env = MujocoEnv(f"{HERE}:{name}-v0")
    _, info = env.reset(seed=2)
    frame, after = env.render(), env.step(env.action_space.high)
    with pytest.raises(TaskError, match="_get_obs"):
        env.reset(options={"physics": info["physics"]})
    env.set_physics(info["physics"])
    np.testing.assert_array_equal(env.render(), frame)
    np.testing.assert_allclose(env.step(env.action_space.high)[1], after[1])


@pytest.mark.parametrize(("name", "processes"), [("Bare", 1), ("Cut", 1), ("Wrapped", 2)])
def test_own_tasks_are_collected_in_this_process_and_in_workers(name, processes, tmp_path):
    config = CollectConfig(f"{HERE}:{name}-v0", tmp_path, steps=120, processes=processes, frame_size=32)
    episodes = load_episodes(collect(config))
    assert sum(len(episode.actions) for episode in episodes) == 120
    assert any(episode.wide for episode in episodes) == (name != "Bare")
    if name == "Cut":
        assert max(len(episode.actions) for episode in episodes) == 7
        assert not any(episode.terminated for episode in episodes)
    if name == "Wrapped":
        paid = np.concatenate([episode.signals["reward"] for episode in episodes])
        angles = np.concatenate([episode.signals["state"][1:, 0] for episode in episodes])
        np.testing.assert_allclose(paid, -3 * np.abs(angles), rtol=1e-5)


def failing(problem: str) -> type[gym.Env]:
    class Failing(own_tasks.Told):
        def __init__(self):
            super().__init__()
            if problem == "constructor":
                raise RuntimeError("no such file: arm.xml")
            if problem == "actions":
                self.action_space = gym.spaces.Box(-1, 1, (2, 2))
            if problem == "observations":
                self.observation_space = gym.spaces.Sequence(gym.spaces.Box(0, 1, (2,)))
            if problem == "other space":
                self.observation_space = gym.spaces.Box(-1, 1, (3,))
            if problem == "no model":
                del self.physics_model

        def look(self):
            if problem == "diverges":
                self.physics_data.qpos[:] = np.nan
            return super().look()

    return Failing


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        ("constructor", "no such file: arm.xml.*test_own_tasks.py"),
        ("actions", r"\(2, 2\)"),
        ("observations", "no list of numbers"),
        ("other space", "2 numbers where its observation_space has 3"),
        ("no model", "does not run on MuJoCo"),
        ("diverges", "Failing-v0.*diverges at once"),
    ],
)
def test_what_an_own_task_lacks_is_named(problem, says):
    gym.register("Failing-v0", failing(problem))
    try:
        with pytest.raises(TaskError, match=says):
            MujocoEnv("Failing-v0", observation="state")
    finally:
        del gym.registry["Failing-v0"]


def test_a_task_repeats_after_a_seed():
    env = MujocoEnv(f"{HERE}:Wrapped-v0", observation="state")
    for first, again in zip(rollout(env, 3, 6), rollout(env, 3, 6), strict=True):
        np.testing.assert_array_equal(first[0], again[0])
