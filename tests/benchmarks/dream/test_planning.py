"""Planning benchmark: the oracle's returns are MuJoCo's and leave it as it was; the smallest table has every arm."""

from types import SimpleNamespace

import numpy as np
import pytest

from procosm.agents.policy.plan.planner import PlanConfig
from procosm.agents.policy.plan.search import Bounds, Found
from procosm.benchmarks.dream import planning as planning_benchmark
from procosm.benchmarks.dream.planning import PlanningConfig, planning, returns_in
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.files import read_json


def test_the_oracle_tries_plans_where_the_episode_is_and_leaves_it_there():
    env, other = (MujocoEnv("Reacher-v5", observation="state") for _ in range(2))
    for each in (env, other):
        each.reset(seed=3)
        each.step(np.array([0.4, -0.2]))
    tried = np.random.default_rng(0).uniform(-1, 1, (1, 2, 4, 2)).astype(np.float32)
    before = env.physics()
    found = returns_in([env], tried, 0.9)
    np.testing.assert_array_equal(env.physics(), before)
    expected = sum(0.9**t * other.step(action)[1] for t, action in enumerate(tried[0, 1]))
    assert found[0, 1] == pytest.approx(expected, abs=1e-6) and found[0, 0] != found[0, 1]


def test_the_oracles_plan_goes_on_a_step_later_and_never_from_its_end_to_its_beginning(monkeypatch):
    """Of the best plan and the elites the first action is gone, and the last is done once more."""
    sought = []

    def found(score, mean, bounds, rng, *, kept=None, **settings):
        sought.append((mean, kept))
        plan = np.arange(1, 5, dtype=np.float32).reshape(1, 4, 1) / 10
        return Found(plan, np.zeros(1), plan, np.stack([plan, -plan], axis=1))

    monkeypatch.setattr(planning_benchmark, "icem", found)
    oracle = planning_benchmark.Oracle(PlanConfig(horizon=4), SimpleNamespace(bounds=Bounds(-np.ones(1), np.ones(1))))
    for on in (None, np.array([True])):
        assert oracle([None], np.empty(0), on).tolist() == [[np.float32(0.1)]]
    (begun, none), (mean, kept) = sought
    assert not begun.any() and none is None
    later = np.array([0.2, 0.3, 0.4, 0.4], np.float32)
    assert mean[0, :, 0].tolist() == later.tolist()
    assert kept[0, :, :, 0].tolist() == [later.tolist(), (-later).tolist()]


def test_the_smallest_table_has_every_arm(tmp_path):
    sizes = {"episodes": 2, "steps": 2, "horizon": 2, "candidates": 6, "iterations": 1}
    rows = read_json(planning(PlanningConfig(out=tmp_path, **sizes)))["rows"]
    returns = {row["arm"]: row for row in rows if row["metric"] == "return"}
    arms = {"iCEM in the dream", "shooting in the dream", "iCEM in MuJoCo", "trained policy", "zero action"}
    assert set(returns) == arms
    for row in returns.values():
        assert row["n"] == 2 and row["low"] <= row["value"] <= row["high"] and row["value"] < 0
