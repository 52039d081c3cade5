"""Seeds of truth envs: what is seeded repeats, what is not differs, and any seed that Gymnasium takes is taken."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest

import procosm.envs  # noqa: F401  (registers the ids)
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.tasks import open_task
from tests.envs import own_tasks

TASKS = (
    "Reacher-v5",
    "Hopper-v5",
    "dm_control/cartpole-swingup",
    "dm_control/reacher-easy",
    f"{own_tasks.HERE}:Told-v0",
)


@pytest.fixture(params=TASKS)
def task(request) -> str:
    if request.param.startswith("dm_control"):
        pytest.importorskip("dm_control")
    return request.param


def starts(env: gym.Env, count: int = 2) -> list[bytes]:
    """The states that unseeded resets begin in."""
    return [env.reset()[1]["state"].tobytes() for _ in range(count)]


def test_resets_without_a_seed_differ_from_each_other_and_between_environments(task):
    every = [start for _ in range(3) for start in starts(MujocoEnv(task, observation="state"))]
    assert len(set(every)) == len(every)


def test_a_seed_repeats_and_so_do_the_resets_after_it(task):
    first, second = MujocoEnv(task, observation="state"), MujocoEnv(task, observation="state")
    starts(first)
    for env in (first, second):
        env.reset(seed=7)
    assert starts(first) == starts(second)


def test_actions_drawn_from_spaces_differ_unless_seeded(task):
    spaces = [MujocoEnv(task, observation="state").action_space for _ in range(3)]
    assert len({space.sample().tobytes() for space in spaces}) == 3
    for space in spaces:
        space.seed(1)
    assert len({space.sample().tobytes() for space in spaces}) == 1


@pytest.mark.parametrize("seed", [0, 2**32 - 1, 2**32, 2**40, 2**64, 2**128 - 1])  # Minari draws 64 bits
def test_any_seed_that_gymnasium_takes_is_taken_and_repeats(task, seed):
    env = MujocoEnv(task, observation="state")
    first, _ = env.reset(seed=seed)
    np.testing.assert_array_equal(env.reset(seed=seed)[0], first)
    assert not np.array_equal(env.reset(seed=seed + 1)[0], first)


def test_a_model_that_is_drawn_when_it_is_made_is_always_the_same():
    pytest.importorskip("dm_control")
    first, second = (open_task("dm_control/lqr-lqr_2_1").model for _ in range(2))
    np.testing.assert_array_equal(first.jnt_stiffness, second.jnt_stiffness)


def test_other_processes_start_elsewhere():
    code = (
        "import procosm.envs, gymnasium as gym; env = gym.make('Procosm/ReacherTruth-v0', observation='state');"
        "print(env.reset()[0].tobytes().hex(), env.action_space.sample().tobytes().hex())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    env = gym.make("Procosm/ReacherTruth-v0", observation="state")
    assert env.reset()[0].tobytes().hex() != there[0] and env.action_space.sample().tobytes().hex() != there[1]


def test_a_vector_of_truth_envs_starts_everywhere_and_repeats_after_a_seed():
    envs = gym.make_vec("Procosm/ReacherTruth-v0", 3, vectorization_mode="sync", observation="state")
    first = envs.reset()[0]
    assert len(np.unique(first, axis=0)) == 3
    np.testing.assert_array_equal(envs.reset(seed=2**40)[0], envs.reset(seed=2**40)[0])
    envs.close()
