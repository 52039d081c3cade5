"""A task named by a file of Python and a function in it: made, found again by checkpoints, never run unasked."""

import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest

from procosm.envs.truth.mujoco import MujocoEnv, settings_of
from procosm.envs.truth.names import ALLOWED, resolve_name
from procosm.world_model.errors import TaskError

FILE = """
import gymnasium as gym
from gymnasium.envs.mujoco.reacher_v5 import ReacherEnv
from gymnasium.wrappers import TimeLimit

from beside import SCALE


class Scaled(gym.RewardWrapper):
    def reward(self, reward):
        return SCALE * reward


def make(steps=20, **options):
    return TimeLimit(Scaled(ReacherEnv(**options)), steps)


def nothing():
    return None


def broken():
    raise ValueError("no robot")


def left():
    raise SystemExit(0)
"""


@pytest.fixture
def file(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv(ALLOWED, "")
    path = tmp_path / "my task.py"
    path.write_text(FILE)
    (tmp_path / "beside.py").write_text("SCALE = 3.0\n")
    return path


def test_a_function_in_a_file_makes_the_task(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    env = MujocoEnv(resolve_name(f"{file.name}:make"), observation="state", env_kwargs={"steps": 7})
    plain = gym.make("Reacher-v5").unwrapped
    assert env.task.max_episode_steps == 7 and env.task.twin.id == f"{file}:make"
    env.reset(seed=1)
    plain.reset(seed=1)
    for _ in range(7):
        _, reward, _, truncated, _ = env.step(np.array([0.3, -0.2]))
        assert reward == pytest.approx(3.0 * plain.step(np.array([0.3, -0.2]))[1])
    assert truncated


def test_a_file_that_a_checkpoint_names_is_run_only_where_it_is_allowed(file, monkeypatch):
    task = MujocoEnv(f"{file}:make", observation="state").task
    MujocoEnv.from_task(task, observation="state")  # it was run already
    monkeypatch.setenv(ALLOWED, "")
    monkeypatch.delitem(__import__("sys").modules, str(file))
    with pytest.raises(TaskError, match="can do anything"):
        settings_of(task)
    monkeypatch.setenv(ALLOWED, str(file))
    assert settings_of(task)["task"] == f"{file}:make"


@pytest.mark.parametrize(
    "function, said",
    [
        ("other", "has no function other"),
        ("nothing", "must return a gymnasium.Env"),
        ("broken", "no robot"),
        ("left", "cannot be made: SystemExit"),
    ],
)
def test_files_that_make_no_task_are_named(file, function, said):
    with pytest.raises(TaskError, match=said):
        MujocoEnv(f"{file}:{function}", observation="state")


def test_a_file_that_is_not_there_or_fails_is_named(tmp_path):
    with pytest.raises(TaskError, match="there is no file"):
        MujocoEnv(f"{tmp_path}/none.py:make", observation="state")
    (tmp_path / "bad.py").write_text("1 / 0\n")
    with pytest.raises(TaskError, match=r"bad\.py failed: ZeroDivisionError"):
        MujocoEnv(f"{tmp_path}/bad.py:make", observation="state")


@pytest.mark.parametrize("status", ["", "0", "3"])
def test_a_file_or_module_that_ends_the_process_does_not_end_the_command_in_silence(tmp_path, monkeypatch, status):
    path = tmp_path / f"leaves{status}.py"
    path.write_text(f"import sys\n\nsys.exit({status})\n")
    with pytest.raises(TaskError, match=rf"leaves{status}\.py failed: SystemExit"):
        MujocoEnv(f"{path}:make", observation="state")
    assert str(path) not in sys.modules
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(TaskError, match=rf"importing 'leaves{status}' failed: SystemExit"):
        MujocoEnv(f"leaves{status}:Task-v0", observation="state")


def test_a_file_may_define_dataclasses_with_postponed_annotations(file):
    path = file.with_name("arm.py")
    options = "from dataclasses import dataclass\n\n\n@dataclass\nclass Options:\n    steps: int = 7\n"
    path.write_text(f"from __future__ import annotations\n{options}{FILE}".replace("steps=20", "steps=Options().steps"))
    assert MujocoEnv(f"{path}:make", observation="state").task.max_episode_steps == 7


def test_a_file_that_failed_is_run_again_and_not_taken_for_allowed(tmp_path):
    path = tmp_path / "bad.py"
    path.write_text("1 / 0\n")
    for _ in range(2):
        with pytest.raises(TaskError, match="ZeroDivisionError"):
            MujocoEnv(f"{path}:make", observation="state")
    assert str(path) not in sys.modules
