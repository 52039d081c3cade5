"""Manipulation: scripted experts reach their goals in MuJoCo, success is logged, and a Fetch task goes the road."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from procosm.agents.judge.intervals import proportion
from procosm.agents.road import (
    RunConfig,
    Stages,
    collect_stage,
    evaluate_stage,
    policy_stage,
    report_stage,
    train_stage,
)
from procosm.envs import ROBOTS
from procosm.envs.collect.experts import script_of
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.data.episodes import load_episodes, load_task
from procosm.world_model.data.task import SUCCESS
from procosm.world_model.errors import TaskError
from procosm.world_model.files import read_json

PACKAGES = {"fetch": "gymnasium_robotics", "metaworld": "metaworld"}


def opened(name: str, **options: object) -> MujocoEnv:
    pytest.importorskip(PACKAGES[name.partition("/")[0]])
    return MujocoEnv(name, observation="state", **options)


def reaches(env: MujocoEnv, seed: int, script) -> bool:
    """Whether any step of an episode is at the goal."""
    _, info = env.reset(seed=seed)
    over = reached = False
    while not over:
        action = script(info["state"]) if script else np.zeros(4)
        _, _, terminated, truncated, info = env.step(np.clip(action, -1, 1))
        over, reached = terminated or truncated, reached or info["success"]
    return reached


@pytest.mark.slow
@pytest.mark.parametrize("name", ROBOTS)
def test_scripts_solve_their_tasks_and_doing_nothing_does_not(name):
    env = opened(name)
    script = script_of(env.task)
    solved = [reaches(env, seed, script) for seed in range(10)]
    idle = [reaches(env, seed, None) for seed in range(10)]
    assert sum(solved) >= 7 and sum(idle) <= 2


def test_a_task_tells_of_success_and_its_goal_is_of_the_seed():
    env = opened("fetch/reach")
    assert env.task.signals["success"] == SUCCESS and env.task.max_episode_steps == 50
    states = [env.reset(seed=seed)[1]["state"] for seed in (3, 3, 4)]
    np.testing.assert_array_equal(states[0], states[1])
    assert not np.array_equal(states[0][3:6], states[2][3:6])
    base = env.simulator._env.unwrapped
    np.testing.assert_allclose(states[2][3:6], base.goal, rtol=1e-6)
    _, reward, _, _, info = env.step(np.zeros(4))
    near = np.linalg.norm(base._get_obs()["achieved_goal"] - base.goal) < 0.05
    assert info["success"] == near and reward == (0.0 if near else -1.0)
    with pytest.raises(TaskError, match="cannot tell its state"):
        env.simulator.state()  # a gripper led by hand: its physics state is not all there is


def test_nobody_scripted_an_expert_of_other_tasks():
    with pytest.raises(TaskError, match="nobody scripted an expert of Reacher-v5"):
        script_of(MujocoEnv("Reacher-v5", observation="state").task)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A run of fetch/reach at its smallest; an expert acts in most of its data."""
    pytest.importorskip("gymnasium_robotics")
    out = tmp_path_factory.mktemp("fetch") / "run"
    small = {"preset": "debug", "steps": 600, "frame_size": 32, "dreams": 8, "horizon": 8, "iterations": 1}
    stages = Stages.of(RunConfig("fetch/reach", out, **small, episodes=4, processes=1, wide=0.0))
    collect_stage(dataclasses.replace(stages.collect, policy="expert:0.7,noise:0.3"))
    train_stage(stages.train)
    policy_stage(dataclasses.replace(stages.policy, truth_every=0))
    evaluate_stage(dataclasses.replace(stages.evaluate, horizon=4, windows=8, dreams=4, speed_seconds=0.05))
    report_stage(stages.report)
    return out


def test_success_is_logged_with_the_reward_that_says_the_same(run):
    assert load_task(run / "data").signals["success"] == SUCCESS
    episodes = load_episodes(run / "data")
    for episode in episodes:
        np.testing.assert_array_equal(episode.signals["success"], episode.signals["reward"] + 1)
        np.testing.assert_array_equal(episode.signals["state"][0, 3:6], episode.signals["state"][-1, 3:6])
    ends = [episode.signals["success"][-1] for episode in episodes if len(episode.actions) == 50]
    assert np.mean(ends) > 0.4  # noise alone hardly ever ends there


def test_a_run_is_judged_by_its_success_rate(run):
    metrics = read_json(run / "metrics.json")
    for policy in ("trained", "zero", "random"):
        found = metrics["returns"]["mujoco"][policy]["success"]
        assert found["n"] == 4 and 0 <= found["low"] <= found["rate"] <= found["high"] <= 1
    assert "success" not in metrics["returns"]["dream"]["trained"]  # what dreams tell of it is not judged
    assert "% of episodes end at the goal" in (run / "report.html").read_text()
    rows = (run / "evaluation" / "returns.csv").read_text().splitlines()
    assert rows[0].endswith(",success") and rows[-1].endswith(",")


def test_wilsons_interval_is_that_of_the_textbook():
    """81 of 263: .308 with .255 to .366 (Wilson without correction; Newcombe, Statistics in Medicine 1998, table I)."""
    found = proportion(np.arange(263) < 81)
    assert (round(found.value, 4), round(found.low, 4), round(found.high, 4)) == (0.3080, 0.2553, 0.3662)
    assert proportion(np.zeros(20, bool)).high == pytest.approx(0.1611, abs=1e-4)
    assert proportion(np.ones(20, bool)).low == pytest.approx(1 - 0.1611, abs=1e-4)
