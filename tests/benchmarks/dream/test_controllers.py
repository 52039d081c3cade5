"""Linear controllers: the linearised task against MuJoCo's derivatives, gains that hold it, the whole once, small."""

import dataclasses
import json

import mujoco
import numpy as np
import pytest
from scipy.linalg import expm

from procosm.agents.judge.ranking.members import Member
from procosm.agents.judge.ranking.paired import Truth, play
from procosm.agents.judge.ranking.regulator import disturbed, linearised, regulator
from procosm.agents.policy.worlds import truth
from procosm.benchmarks.dream.controllers import ControllersConfig, controllers
from procosm.envs.dreams.weights import SHIPPED, find_checkpoint
from procosm.world_model.checkpoint import load
from procosm.world_model.errors import TaskError


def task_of(name: str):
    return load(find_checkpoint(SHIPPED / name, None)).task


def test_the_linearised_pendulum_has_mujocos_derivatives():
    task = task_of("InvertedPendulum")
    a, b = linearised(task)
    env = truth(task, "state")
    env.reset(options={"physics": np.zeros(5)})
    model, data = env.unwrapped.simulator.model, env.unwrapped.simulator.data
    # MuJoCo's derivatives need Euler's rule; of tiny steps they are those of the continuous system, which is exact
    # over a step of the task by the matrix exponential.
    model.opt.integrator, model.opt.timestep = mujoco.mjtIntegrator.mjINT_EULER, 1e-5
    by_state, by_control = np.zeros((4, 4)), np.zeros((4, 1))
    mujoco.mjd_transitionFD(model, data, 1e-6, True, by_state, by_control, None, None)
    continuous = np.zeros((5, 5))
    continuous[:4] = np.hstack([by_state - np.eye(4), by_control]) / model.opt.timestep
    exact = expm(continuous * task.dt_s)
    np.testing.assert_allclose(a, exact[:4, :4], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(b, exact[:4, 4:], rtol=1e-3, atol=1e-4)
    assert np.abs(np.linalg.eigvals(a)).max() > 1 > np.abs(np.linalg.eigvals(a - b @ regulator(a, b)[None])).max()


def test_optimal_gains_balance_in_mujoco_and_no_gains_do_not():
    task = dataclasses.replace(task_of("InvertedPendulum"), max_episode_steps=300)
    gains = regulator(*linearised(task))
    members = [Member("optimal", "linear", gains=tuple(gains)), Member("none", "linear", gains=(0.0,) * 4)]
    found = {}
    play(Truth(task, 4), task, members, [1, 2], [], lambda member, rows: found.setdefault(member.name, rows), "test")
    assert [row["return"] for row in found["optimal"]] == [300, 300]
    assert max(row["return"] for row in found["none"]) < 100


def test_the_panel_is_of_four_kinds_and_its_seeds():
    gains = np.array([-1.7, -12.0, -2.0, -1.9])
    members = disturbed(gains, 8, 0.35, 0)
    assert [member.name.split()[0] for member in members] == ["whole", "outwards", "blind", "excited"] * 2
    assert all(gain < 0 for member in members[::4] for gain in member.gains)
    assert all(member.gains[0] > 0 for member in members[1::4]) and all(m.gains[0] == 0 for m in members[2::4])
    assert all(member.gains[2] > 0 for member in members[3::4])
    assert disturbed(gains, 8, 0.35, 0) == members != disturbed(gains, 8, 0.35, 1)


def test_a_quick_run_ranks_the_panel_and_other_tasks_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = controllers(ControllersConfig(SHIPPED / "InvertedPendulum", quick=True))
    found = json.loads(path.read_text())
    assert path.parent.resolve() == tmp_path / "runs" / "controllers"
    assert {row["horizon"] for row in found["rows"]} == {"whole episode", "first 100 steps"}
    assert len(found["details"]["returns"]) == 16 and all(0 < r["mujoco"] <= 200 for r in found["details"]["returns"])
    with pytest.raises(TaskError, match="InvertedPendulum-v5, not for Reacher"):
        controllers(ControllersConfig(SHIPPED / "Reacher", quick=True))
