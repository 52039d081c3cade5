"""Controllers of Reacher beside MuJoCo: the torque is that of the true Jacobian, and they solve the task or miss it."""

import gymnasium as gym
import mujoco
import numpy as np
import pytest

from procosm.agents.judge.ranking.members import reaching
from procosm.agents.judge.ranking.paired import Truth, play
from procosm.agents.judge.ranking.reaching import torque
from procosm.envs.truth.mujoco import MujocoEnv


def test_the_spring_pulls_along_mujocos_jacobian():
    env = gym.make("Reacher-v5")
    for seed in range(5):
        seen, _ = env.reset(seed=seed)
        seen = env.step(np.array([1.0, -0.7], np.float32))[0]
        model, data = env.unwrapped.model, env.unwrapped.data
        jacobian = np.zeros((3, model.nv))
        mujoco.mj_jacBody(model, data, jacobian, None, model.body("fingertip").id)
        pull = jacobian[:2, :2].T @ -seen[8:10]
        expected = 7.0 * pull - 0.2 * seen[6:8]
        np.testing.assert_allclose(torque(seen[None], 7.0, 0.2, 0.0)[0], expected, atol=1e-3)
    env.close()


def test_straight_springs_solve_reacher_and_those_led_astray_do_not():
    env = MujocoEnv("Reacher-v5")
    members = {member.reach: member for member in reaching()}
    assert len({member.name for member in members.values()}) == len(members)
    asked = [members[10.0, 0.05, 0.0], members[10.0, 0.05, 3.1]]
    found = {}
    play(Truth(env.task, 20), env.task, asked, range(10), (), lambda m, rows: found.setdefault(m.reach, rows), "test")
    earned, effort = (
        {reach: np.mean([row[key] for row in rows]) for reach, rows in found.items()} for key in ("return", "effort")
    )
    assert earned[10.0, 0.05, 0.0] > -8.0, "what SAC has after 20,000 steps is -4.4; doing nothing earns -11.7"
    assert earned[10.0, 0.05, 3.1] < -11.7
    assert effort[10.0, 0.05, 3.1] == pytest.approx(effort[10.0, 0.05, 0.0], abs=3.0), (
        "torque costs them about the same"
    )
