"""Copies and pickles of truth envs: they go on as the original would, and draw with a renderer of their own."""

import copy
import pickle
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

import procosm.envs  # noqa: F401  (registers the ids)
from procosm.envs.truth.mujoco import MujocoEnv
from tests.envs import own_tasks

TASKS = (
    "Reacher-v5",
    "HalfCheetah-v5",  # floors are cut to a runway
    "dm_control/reacher-easy",  # its target is part of the model
    *(f"{own_tasks.HERE}:{name}-v0" for name in ("Bare", "Cut", "Stacked", "Limited")),
)
WAYS = {"deepcopy": copy.deepcopy, "pickle": lambda env: pickle.loads(pickle.dumps(env))}


def begun(env: gym.Env) -> gym.Env:
    """In the middle of an episode, with a frame drawn."""
    env.reset(seed=1)
    for _ in range(3):
        env.step(0.3 * env.action_space.high)
    env.render()
    return env


def future(env: gym.Env) -> list:
    """Everything an environment shows from now on, into the next episode."""
    shown = [env.render()]
    for _ in range(5):
        observation, *rest, info = env.step(-0.4 * env.action_space.high)
        shown += [observation["pixels"], info["physics"], info["state"], rest]
    return [*shown, env.reset()[0]["state"]]


def assert_same(ours: list, theirs: list) -> None:
    for mine, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("task", TASKS)
def test_a_copy_goes_on_as_the_original(task, way):
    if task.startswith("dm_control"):
        pytest.importorskip("dm_control")
    env = begun(MujocoEnv(task, observation=("pixels", "state")))
    copies = [WAYS[way](env) for _ in range(2)]
    copied = future(copies[0])
    copies[0].close()
    del copies[0]
    assert_same(future(env), copied)
    assert_same(future(copies[0]), copied)


def test_a_shallow_copy_shares_the_task_and_not_the_renderer():
    env = begun(MujocoEnv("HalfCheetah-v5"))
    frame, shallow = env.render(), copy.copy(env)
    np.testing.assert_array_equal(shallow.render(), frame)
    shallow.close()
    np.testing.assert_array_equal(env.render(), frame)


def test_a_renderer_that_was_closed_draws_the_same_again():
    env = begun(MujocoEnv("HalfCheetah-v5"))
    frame = env.render()
    env.close()
    np.testing.assert_array_equal(env.render(), frame)


@pytest.mark.parametrize("way", WAYS)
def test_wrapped_and_perceiving_envs_copy(way, truth_checkpoint):
    for kwargs in ({"task": "Reacher-v5"}, {"checkpoint": str(truth_checkpoint)}):
        env = gym.make("Procosm/Truth-v0", disable_env_checker=True, **kwargs)
        env.reset(seed=0)
        env.step(env.action_space.high)
        again = WAYS[way](env)
        action = 0.2 * env.action_space.high
        np.testing.assert_array_equal(again.step(action)[0], env.step(action)[0])


def test_vectors_copy():
    envs = gym.make_vec("Procosm/ReacherTruth-v0", 2, vectorization_mode="sync")
    envs.reset(seed=0)
    actions = 0.5 * np.ones((2, 2), np.float32)
    envs.step(actions)
    np.testing.assert_array_equal(copy.deepcopy(envs).step(actions)[0], envs.step(actions)[0])
    envs.close()


def test_a_pickle_opens_in_another_process(tmp_path):
    env = begun(MujocoEnv("Reacher-v5"))
    (tmp_path / "env.pickle").write_bytes(pickle.dumps(env))
    code = "import pickle, sys; sys.stdout.buffer.write(pickle.load(open(sys.argv[1], 'rb')).render().tobytes())"
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "env.pickle")], capture_output=True, check=True)
    assert run.stdout == env.render().tobytes()
