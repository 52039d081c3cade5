"""The truth env is the task itself: Gymnasium's and MuJoCo's numbers, whatever draws beside it."""

import gc
import threading
import warnings

import gymnasium as gym
import mujoco
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_sb3

import procosm.envs
from procosm.envs.truth.backend import RENDERER
from procosm.envs.truth.mujoco import PHYSICS, MujocoEnv
from procosm.envs.truth.render import VERSION
from procosm.world_model.errors import TaskError

NAMES = tuple(procosm.envs.TASKS)


def rollout(env: gym.Env, seed: int, steps: int) -> list[tuple]:
    """Observations, rewards and ends of one episode under seeded random actions."""
    rng = np.random.default_rng(seed)
    moments = [(env.reset(seed=seed)[0], 0.0, False)]
    for _ in range(steps):
        action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
        observation, reward, terminated, truncated, _ = env.step(action)
        moments.append((observation, reward, terminated))
        if terminated or truncated:
            break
    return moments


@pytest.mark.parametrize("name", NAMES)
def test_states_rewards_and_ends_are_gymnasiums_own(name):
    ours = rollout(MujocoEnv(procosm.envs.TASKS[name], observation=("pixels", "state")), 3, 20)
    theirs = rollout(gym.make(procosm.envs.TASKS[name]), 3, 20)
    assert len(ours) == len(theirs)
    for (seen, reward, ended), (state, true_reward, true_end) in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(seen["state"], state.astype(np.float32))
        assert reward == true_reward and ended == true_end


def test_dm_control_states_and_rewards_are_its_own():
    suite = pytest.importorskip("dm_control.suite")
    env = MujocoEnv("dm_control/cartpole-swingup", observation="state")
    theirs = suite.load("cartpole", "swingup", task_kwargs={"random": 4})
    moments = rollout(env, 4, 10)
    rng, step = np.random.default_rng(4), theirs.reset()
    for state, reward, _ in moments:
        flat = np.concatenate([np.ravel(part) for part in step.observation.values()])
        np.testing.assert_array_equal(state, flat.astype(np.float32))
        assert reward == (step.reward or 0.0)
        step = theirs.step(rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32))
    assert env.task.max_episode_steps == 1000


@pytest.mark.parametrize("name", NAMES)
def test_checkers_of_gymnasium_and_sb3_find_nothing(name):
    with warnings.catch_warnings():
        # The task's own units: InvertedPendulum pushes with up to 3 N, Pusher turns with up to 2 N m.
        warnings.filterwarnings("ignore", ".*symmetric and normalized.*")
        check_env(gym.make(f"Procosm/{name}Truth-v0").unwrapped)
        check_env_sb3(gym.make(f"Procosm/{name}Truth-v0").unwrapped)


@pytest.mark.parametrize("observation", ["state", ("pixels", "state")])
def test_checkers_find_nothing_in_other_observations(observation):
    env = gym.make("Procosm/ReacherTruth-v0", observation=observation).unwrapped
    with warnings.catch_warnings():
        # A state has no bounds, in Gymnasium's own tasks neither.
        warnings.filterwarnings("ignore", ".*(minimum|maximum) value is -?infinity.*")
        check_env(env)
    check_env_sb3(env)


@pytest.mark.parametrize("name", NAMES)
def test_frames_show_a_robot_that_moves(name):
    moments = rollout(MujocoEnv(procosm.envs.TASKS[name]), 0, 5)
    first, last = moments[0][0].astype(int), moments[-1][0].astype(int)
    assert first.shape == (64, 64, 3) and first.std() > 5
    assert (np.abs(first - last).max(axis=-1) > 20).sum() >= 8


def test_environments_that_take_turns_draw_what_they_draw_alone():
    tasks = ("InvertedPendulum-v5", "HalfCheetah-v5", "Reacher-v5")
    alone = [[frame for frame, *_ in rollout(MujocoEnv(task), 1, 6)] for task in tasks]
    envs = [MujocoEnv(task) for task in tasks]
    rngs = [np.random.default_rng(1) for _ in tasks]
    frames = [[env.reset(seed=1)[0]] for env in envs]
    doomed = MujocoEnv("Hopper-v5")
    doomed.reset(seed=0)
    for step in range(6):
        if step == 3:
            # Its OpenGL objects have the names of others' objects: freeing them must not blank anyone.
            del doomed
            gc.collect()
        for env, rng, seen, known in zip(envs, rngs, frames, alone, strict=True):
            if len(seen) < len(known):
                action = rng.uniform(env.action_space.low, env.action_space.high).astype(np.float32)
                seen.append(env.step(action)[0])
    for seen, known in zip(frames, alone, strict=True):
        np.testing.assert_array_equal(seen, known)


def test_another_thread_draws_the_same():
    env = MujocoEnv("Reacher-v5")
    here = env.reset(seed=5)[0]
    there = []
    thread = threading.Thread(target=lambda: there.append(env.reset(seed=5)[0]))
    thread.start()
    thread.join()
    np.testing.assert_array_equal(there[0], here)
    np.testing.assert_array_equal(env.render(), here)


@pytest.mark.parametrize("task", ["InvertedPendulum-v5", "HalfCheetah-v5"])
def test_a_physics_state_brings_back_frame_state_and_future(task):
    env = MujocoEnv(task, observation=("pixels", "state"))
    env.reset(seed=2)
    *_, info = env.step(env.action_space.high * 0.3)
    before = env.render()
    action = env.action_space.low * 0.5
    after, reward, terminated, _, _ = env.step(action)
    observation, again = env.reset(options={"physics": info["physics"]})
    np.testing.assert_array_equal(observation["pixels"], before)
    np.testing.assert_array_equal(again["state"], info["state"])
    np.testing.assert_array_equal(again["physics"], info["physics"])
    replayed, reward_again, ended, _, _ = env.step(action)
    # The constraint solver starts from another guess, so this is close, not equal.
    np.testing.assert_allclose(replayed["state"], after["state"], atol=1e-5)
    assert reward_again == pytest.approx(reward, abs=1e-5) and ended == terminated


def test_physics_is_mujocos_full_state():
    env = MujocoEnv("Reacher-v5", observation="state")
    _, info = env.reset(seed=0)
    model, data = env.simulator.model, env.simulator.data
    expected = np.concatenate([[data.time], data.qpos, data.qvel])
    assert mujoco.mj_stateSize(model, PHYSICS) == len(expected)
    np.testing.assert_array_equal(info["physics"], expected)


def test_action_repeat_sums_rewards_and_shortens_episodes():
    single, double = MujocoEnv("Reacher-v5", observation="state"), MujocoEnv("Reacher-v5", 64, 2, "state")
    single.reset(seed=1)
    double.reset(seed=1)
    action = np.array([0.4, -0.2], np.float32)
    rewards = [single.step(action) for _ in range(2)]
    state, reward, *_ = double.step(action)
    np.testing.assert_array_equal(state, rewards[1][0])
    assert reward == rewards[0][1] + rewards[1][1]
    assert double.task.max_episode_steps == 25 and double.task.dt_s == pytest.approx(2 * single.task.dt_s)
    ends = [double.step(action)[3] for _ in range(24)]
    assert ends == [False] * 23 + [True]


def test_actions_beyond_the_bounds_are_clipped():
    env = MujocoEnv("HalfCheetah-v5", observation="state")
    env.reset(seed=1)
    wild = env.step(np.full(6, 7.0))
    env.reset(seed=1)
    tame = env.step(np.ones(6))
    np.testing.assert_array_equal(wild[0], tame[0])
    assert wild[1] == tame[1]


def test_a_saved_task_makes_the_same_frames():
    env = MujocoEnv("Hopper-v5", frame_size=48, action_repeat=2)
    again = MujocoEnv.from_task(env.task)
    assert again.task == env.task
    np.testing.assert_array_equal(again.reset(seed=8)[0], env.reset(seed=8)[0])


@pytest.mark.parametrize(
    ("action", "says"),
    [(np.zeros(3), "shape"), (np.array([np.nan, 0.0]), "finite"), (np.array([np.inf, 0.0]), "finite")],
)
def test_bad_actions_are_refused_and_harm_nothing(action, says):
    env = MujocoEnv("Reacher-v5", observation="state")
    _, before = env.reset(seed=0)
    with pytest.raises(TaskError, match=says):
        env.step(action)
    np.testing.assert_array_equal(env.physics(), before["physics"])


@pytest.mark.skipif(RENDERER == "raycast", reason="rays have no versions: frames are of OpenGL")
def test_frames_of_version_2_show_motion_by_a_tenth_of_a_pixel():
    """Against frames of 8 × 8 samples for each pixel: pixels, their changes in a step, and nothing else differs."""

    def creeping(version: int, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
        env = MujocoEnv("InvertedPendulum-v5", frame_size=size, version=version)
        frames = []
        for i in range(40):
            env.reset(seed=0, options={"physics": np.array([0, 0.004 * i, 0, 0, 0])})
            frames.append(env.render())
        geoms = env._drawing.geoms(env.simulator, "main")
        env.close()
        return np.stack(frames).astype(np.float64), geoms

    fine = creeping(1, 256)[0].reshape(40, 64, 4, 64, 4, 3).mean(axis=(2, 4))
    (first, ids), (second, same) = creeping(1), creeping(2)

    def off(frames: np.ndarray) -> float:
        """Error of what changes in a step, over what changes."""
        true = np.diff(fine, axis=0)
        return float(np.linalg.norm(np.diff(frames, axis=0) - true) / np.linalg.norm(true))

    assert off(second) < 0.5 < 1.0 < off(first)
    assert np.abs(second - fine).mean() < 0.5 * np.abs(first - fine).mean()
    np.testing.assert_array_equal(same, ids)  # what is seen at a sample is no average of ids


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"task": "Reachr-v5"}, "Reacher-v5"),
        ({"task": "CartPole-v1"}, "MuJoCo"),
        ({"task": "not an id"}, "cannot be opened"),
        ({"observation": "latent"}, "checkpoint=PATH"),
        ({"observation": ()}, "observation"),
        ({"frame_size": 16}, "frame_size is 16.* 32"),
        ({"action_repeat": 0}, "action_repeat is 0.* 1"),
        ({"render_mode": "human"}, "rgb_array"),
        ({"version": VERSION + 1}, "version"),
        ({"renderer": "vulkan"}, "unknown"),
        ({"camera": {"fovy": 3.0}}, "no camera"),
    ],
)
def test_bad_options_say_what_to_do(options, says):
    with pytest.raises(TaskError, match=says):
        MujocoEnv(**{"task": "Reacher-v5", **options})


@pytest.mark.parametrize("options", [{"physics": np.zeros(3)}, {"physics": np.full(9, np.nan)}, {"state": np.zeros(9)}])
def test_bad_reset_options_are_refused(options):
    env = MujocoEnv("Reacher-v5", observation="state")
    with pytest.raises(TaskError):
        env.reset(options=options)


def test_truth_ids_need_a_task():
    with pytest.raises(TaskError, match="task="):
        gym.make("Procosm/Truth-v0")
    env = gym.make("Procosm/Truth-v0", task="Swimmer-v5", frame_size=32, max_episode_steps=5)
    assert env.observation_space.shape == (32, 32, 3)
