"""Names of tasks, and what is said about names that are none."""

import sys

import gymnasium as gym
import numpy as np
import pytest

from procosm.envs.truth.names import resolve_name
from procosm.envs.truth.tasks import open_task
from procosm.world_model.errors import TaskError


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("Reacher", "Reacher-v5"),
        ("Procosm/Reacher-v0", "Reacher-v5"),
        ("Procosm/HalfCheetahTruth-v0", "HalfCheetah-v5"),
        ("procosm.envs:Procosm/Hopper-v0", "Hopper-v5"),
        ("Reacher-v4", "Reacher-v4"),
        ("Swimmer-v5", "Swimmer-v5"),
        ("dm_control/cartpole-swingup", "dm_control/cartpole-swingup"),
    ],
)
def test_every_name_of_a_task_is_understood(name, task):
    assert resolve_name(name) == task


def test_a_gymnasium_task_keeps_its_own_limits():
    simulator = open_task("Pusher-v5")
    theirs = gym.make("Pusher-v5")
    np.testing.assert_array_equal(simulator.action_low, theirs.action_space.low)
    assert simulator.max_steps == theirs.spec.max_episode_steps == 100
    assert simulator.dt_s == theirs.unwrapped.dt


def test_states_can_be_read_again_without_a_step():
    simulator = open_task("Ant-v5")
    np.testing.assert_array_equal(simulator.reset(3), simulator.state())
    assert simulator.state().dtype == np.float32


@pytest.mark.parametrize(
    ("name", "says"),
    [("Hoper-v5", "Hopper-v5"), ("dm_control/cartpol-swingup", "cartpole-swingup"), ("nonsense", "cannot be opened")],
)
def test_wrong_names_get_the_close_ones(name, says):
    if name.startswith("dm_control"):
        pytest.importorskip("dm_control")
    with pytest.raises(TaskError, match=says):
        open_task(name)


def test_without_dm_control_its_tasks_say_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dm_control", None)
    with pytest.raises(TaskError, match="pip install"):
        open_task("dm_control/cartpole-swingup")
