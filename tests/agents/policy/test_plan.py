"""Planning against the linear-quadratic regulator, whose best plan and its cost are known."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from procosm.agents.judge.evaluate import EvaluateConfig
from procosm.agents.judge.rollouts import Player, actor
from procosm.agents.policy.plan import planner as planner_module
from procosm.agents.policy.plan.command import PlanFileConfig, plan
from procosm.agents.policy.plan.dreamed import Moment
from procosm.agents.policy.plan.planner import PlanConfig, Planner, load_planner
from procosm.agents.policy.plan.search import Bounds, coloured, icem, mppi, random_shooting
from procosm.envs.play.policy import SavedPilot
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.errors import ProcosmError, TaskError
from procosm.world_model.interface import MEAN, Condition, Prediction, Sampling
from procosm.world_model.settings import SettingsError
from tests.conftest import CONTEXT, SIDE, BrightnessTokenizer, LinearMemory, simulated_task

A = np.array([[0.95, 0.2, 0.0, 0.0], [0.0, 0.9, 0.1, 0.0], [0.0, 0.0, 0.8, 0.3], [0.1, 0.0, 0.0, 0.7]])
B = np.array([[0.0, 0.1], [0.5, 0.0], [0.0, 0.4], [0.3, -0.2]])
Q, R = np.diag([1.0, 0.5, 0.2, 0.1]), 0.05 * np.eye(2)
HORIZON = 6
STARTS = np.array([[0.5, -0.3, 0.2, 0.1], [-0.4, 0.2, 0.0, 0.3]])


class QuadraticDynamics:
    """z' = A z + B a; reward -(z'ᵀ Q z' + aᵀ R a); the end where the first number passes ``end``. The state is z."""

    context, mixed, end = CONTEXT, False, 100.0
    readouts = frozenset({"reward", "termination", "state"})

    def begin(self, latents: torch.Tensor, condition: Condition | None = None) -> LinearMemory:
        return LinearMemory(latents[:, -1].clone(), latents[:, -2].clone())

    def read(self, memory: LinearMemory) -> dict[str, torch.Tensor]:
        return {"state": memory.newest.flatten(1)}

    def step(
        self,
        memory: LinearMemory,
        action: torch.Tensor,
        draws: Sequence[np.random.Generator] | None = None,
        sampling: Sampling = MEAN,
    ) -> tuple[LinearMemory, Prediction]:
        a = action.double()
        z = memory.newest.flatten(1).double() @ torch.from_numpy(A).T + a @ torch.from_numpy(B).T
        cost = ((z @ torch.from_numpy(Q)) * z).sum(1) + ((a @ torch.from_numpy(R)) * a).sum(1)
        latent = z.float().view(-1, 1, SIDE, SIDE)
        after = LinearMemory(latent, memory.newest)
        told = {"reward": -cost, "termination": (z[:, 0] > self.end).float()}
        return after, Prediction(latent, told | self.read(after))


def regulator(horizon: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """(K, P) of each step, by the Riccati recursion from the end on: action -K z, cost to go zᵀ P z."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    p = np.zeros((4, 4))
    for _ in range(horizon):
        m = Q + p
        k = np.linalg.solve(R + B.T @ m @ B, B.T @ m @ A)
        p = A.T @ m @ A - A.T @ m @ B @ k
        found.insert(0, (k, p))
    return found


@pytest.fixture
def world() -> WorldModel:
    starts = torch.zeros(2, CONTEXT, 1, SIDE, SIDE)
    starts[:, -1] = torch.from_numpy(STARTS).float().view(2, 1, SIDE, SIDE)
    return WorldModel(
        task=simulated_task("Quadratic-v0", 40, 4, actions=2),
        tokenizer=BrightnessTokenizer(),
        dynamics=QuadraticDynamics(),
        start_frames=torch.zeros(2, CONTEXT, 40, 40, 3, dtype=torch.uint8),
        start_states=None,
        starts=starts,
        reward_range=None,
        metrics={},
        provenance={},
    )


def moment(world: WorldModel, **options: object) -> Moment:
    return Moment(world, world.starts, world.begin(world.starts), 1.0, **options)


def optimal() -> np.ndarray:
    """(2,) costs of the best plans."""
    p = regulator(HORIZON)[0][1]
    return np.einsum("ni,ij,nj->n", STARTS, p, STARTS)


BOUNDS = Bounds(np.full(2, -1.0, np.float32), np.full(2, 1.0, np.float32))
MEAN_PLAN = np.zeros((2, HORIZON, 2), np.float32)
SIZES = {"candidates": 128, "iterations": 8, "std": 0.5}


def test_returns_of_plans_are_those_of_a_loop(world):
    actions = np.random.default_rng(0).uniform(-1, 1, (2, 3, 4, 2)).astype(np.float32)
    found = Moment(world, world.starts, world.begin(world.starts), 0.9).returns(actions)
    for n in range(2):
        for k in range(3):
            z, total = STARTS[n], 0.0
            for t, a in enumerate(actions[n, k]):
                z = A @ z + B @ a
                total -= 0.9**t * (z @ Q @ z + a @ R @ a)
            assert found[n, k] == pytest.approx(total, rel=1e-5)


def test_nothing_is_earned_after_an_end(world):
    world.dynamics.end = 0.4  # the first start passes it with its first step
    actions = np.zeros((2, 1, 3, 2), np.float32)
    z = A @ STARTS[0]
    assert z[0] > 0.4
    assert moment(world).returns(actions)[0, 0] == pytest.approx(-(z @ Q @ z), rel=1e-5)
    assert moment(world, value=lambda seen: np.full(len(seen), 1e6)).returns(actions)[0, 0] < 0


@pytest.mark.parametrize("method", ["icem", "mppi"])
def test_the_plan_is_the_regulators_and_no_plan_is_cheaper(world, method):
    """Its cost is within 2 % of the optimum, which shooting with as many candidates is far from."""
    rng, best = np.random.default_rng(1), optimal()
    if method == "icem":
        found = icem(moment(world).returns, MEAN_PLAN, BOUNDS, rng, **SIZES, elites=12, beta=0.0)
    else:
        found = mppi(moment(world).returns, MEAN_PLAN, BOUNDS, rng, **SIZES | {"iterations": 24, "std": 0.15})
    cost = -found.score
    assert (cost >= best * (1 - 1e-6)).all() and (cost <= 1.02 * best).all()
    np.testing.assert_allclose(-moment(world).returns(found.best[:, None])[:, 0], cost, rtol=1e-6)
    shot = random_shooting(moment(world).returns, MEAN_PLAN, BOUNDS, rng, candidates=128 * 8)
    assert (-shot.score > 1.2 * best).all()
    (gain, _), (_, later) = regulator(HORIZON)[:2]
    away = found.best[:, 0] + STARTS @ gain.T  # costs this much, whatever comes later
    assert (np.einsum("ni,ij,nj->n", away, R + B.T @ (Q + later) @ B, away) <= (cost - best) * (1 + 1e-4)).all()


def test_a_value_at_the_end_of_the_horizon_stands_for_the_steps_beyond(world):
    """With the regulator's cost to go, a plan of two steps begins as the regulator of forty does; without, not."""
    k, p = regulator(40)[0]

    def value(seen: np.ndarray) -> np.ndarray:
        return -np.einsum("ni,ij,nj->n", seen, p, seen)

    truth, mean = -STARTS @ k.T, MEAN_PLAN[:, :2]
    for given, near in ((value, True), (None, False)):
        there = moment(world, observation="state", value=given)
        found = icem(there.returns, mean, BOUNDS, np.random.default_rng(2), **SIZES, elites=12, beta=0.0)
        assert (np.abs(found.best[:, 0] - truth).max() < 0.03) == near


def test_coloured_noise_has_its_variance_and_its_spectrum():
    for beta, steps in ((0.0, 9), (0.0, 16), (2.0, 9), (2.0, 16), (3.0, 1)):
        noise = coloured(np.random.default_rng(0), (4000, steps, 2), beta)
        assert noise.std() == pytest.approx(1.0, abs=0.03)
    power = np.square(np.abs(np.fft.rfft(coloured(np.random.default_rng(0), (20000, 16, 1), 2.0), axis=1))).mean((0, 2))
    np.testing.assert_allclose(power[1:8] / power[1], np.arange(1, 8) ** -2.0, rtol=0.1)


def regulated(world: WorldModel, config: PlanConfig) -> tuple[np.ndarray, np.ndarray, tuple[np.ndarray, ...]]:
    """(2,) costs of ten steps in the world itself, (10, 2, a) actions, and what the planner remembers in the end."""
    planner, state, z, total = Planner(world, config), None, STARTS.copy(), np.zeros(2)
    actions = []
    for step in range(10):
        latents = np.zeros((2, CONTEXT, 1, SIDE, SIDE), np.float32)
        latents[:, -1] = z.reshape(2, 1, SIDE, SIDE)
        action, state = planner.predict(latents, state, np.full(2, step == 0))
        z = z @ A.T + action @ B.T
        total += np.einsum("ni,ij,nj->n", z, Q, z) + np.einsum("ni,ij,nj->n", action, R, action)
        actions.append(action)
    assert state is not None
    return total, np.stack(actions), state


def test_a_planner_regulates_and_the_same_seed_plans_the_same(world):
    """It costs no less than the regulator, and less than shooting with as many candidates, or than doing nothing."""
    config = PlanConfig(horizon=HORIZON, candidates=64, iterations=4, beta=0.0, gamma=1.0, seed=3)
    cost, done, state = regulated(world, config)
    best = np.einsum("ni,ij,nj->n", STARTS, regulator(10)[0][1], STARTS)
    shot, _, _ = regulated(world, dataclasses.replace(config, method="random"))
    idle, z = np.zeros(2), STARTS
    for _ in range(10):
        z = z @ A.T
        idle += np.einsum("ni,ij,nj->n", z, Q, z)
    assert (best <= cost).all() and (cost < shot).all() and (cost < idle).all()
    again, same, _ = regulated(world, config)
    np.testing.assert_array_equal(done, same)
    np.testing.assert_array_equal(cost, again)
    assert not np.array_equal(done, regulated(world, dataclasses.replace(config, seed=4))[1])
    np.testing.assert_array_equal(state[2], np.moveaxis(done[-CONTEXT + 1 :], 0, 1))


def test_the_best_of_a_policys_actions_is_never_worse_in_the_dream_than_the_policy(world, monkeypatch):
    """A policy with a third of the regulator's gain: the best of 32 is better, the best of one is the policy."""
    gain = regulator(40)[0][0] / 3
    config = PlanConfig(method="random", horizon=HORIZON, candidates=32, gamma=1.0, beta=0.0, std=0.2)
    planner = Planner(world, config)
    planner._act, planner._observation = (lambda seen: (-seen @ gain.T).astype(np.float32)), "state"
    there = moment(world, observation="state")
    alone, earned = there.rolled(planner._act, MEAN_PLAN[:, None], BOUNDS.clip)
    best = planner._best_of(there, MEAN_PLAN)
    assert (best.score > earned[:, 0]).all()
    np.testing.assert_allclose(there.returns(best.best[:, None])[:, 0], best.score, rtol=1e-5)
    np.testing.assert_allclose(alone[:, 0, 0], -STARTS @ gain.T, rtol=1e-5)
    planner.config = dataclasses.replace(config, candidates=1)
    np.testing.assert_array_equal(planner._best_of(there, MEAN_PLAN).best, alone[:, 0])


def test_a_file_of_settings_plays_as_a_policy_does(tiny_checkpoint, tmp_path):
    path = plan(PlanFileConfig(out=tmp_path / "plan.json", horizon=2, candidates=8, iterations=1, elites=4))
    model = load(tiny_checkpoint)
    observed = model.starts[:3].numpy()
    act = actor(Player(tiny_checkpoint, "trained", path, "plan", "latent"), model.task, 0)
    expected = load_planner(path, model).predict(observed)[0]
    np.testing.assert_array_equal(act(observed), expected)
    assert expected.shape == (3, 1) and expected.dtype == np.float32
    later = actor(Player(tiny_checkpoint, "trained", path, "plan", "latent"), model.task, 10)
    assert not np.array_equal(later(observed), expected)  # episodes are independent of those of other seeds
    SavedPilot(path, model, opens=lambda path, model, trust: load_planner(path, model))  # what it sees is known
    with pytest.raises(TaskError, match="is no policy"):
        SavedPilot(Path(__file__), model)


def test_only_a_planner_is_judged_in_place_of_the_runs_own_policy():
    with pytest.raises(SettingsError, match="give a planner's settings"):
        EvaluateConfig(Path("run"), policy=Path("run/policy/policy.zip"))


@pytest.mark.parametrize(
    "wrong, said",
    [
        ({"value": True}, "need a --policy"),
        ({"method": "best-of"}, "need a --policy"),
        ({"elites": 40}, "at most half"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong, said):
    with pytest.raises(SettingsError, match=said):
        PlanConfig(**wrong)


def test_a_plan_file_is_refused_that_no_command_could_play(tmp_path):
    with pytest.raises(ProcosmError, match=r"--out .*plan\.txt: .*\.json"):
        plan(PlanFileConfig(out=tmp_path / "plan.txt"))
    with pytest.raises(ProcosmError, match=r"--policy .*none\.zip: there is no such file"):
        plan(PlanFileConfig(out=tmp_path / "plan.json", policy=tmp_path / "none.zip"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b'{"benchmark": "plan", "rows": []}', b"[]", b"{", b"", b"\xff"])
def test_no_file_but_a_planners_own_is_replaced(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"--out .*results\.json: that file holds no planner's settings"):
        plan(PlanFileConfig(out=path))
    assert path.read_bytes() == content
    path.unlink()
    plan(PlanFileConfig(out=path))
    earlier = json.loads(path.read_text()) | {"knob": 1}
    earlier.pop("gamma", None)
    path.write_text(json.dumps(earlier))
    plan(PlanFileConfig(out=path, horizon=3))
    assert json.loads(path.read_text())["horizon"] == 3 and "knob" not in path.read_text()


def test_a_policy_of_other_actions_is_refused(world, monkeypatch):
    """Of one number, which would be done with both motors."""
    spaces = SimpleNamespace(shape=(4,)), SimpleNamespace(shape=(1,))
    policy = SimpleNamespace(observation_space=spaces[0], action_space=spaces[1])
    monkeypatch.setattr(planner_module, "load_policy", lambda path: policy)
    with pytest.raises(TaskError, match=r"actions of shape \(1,\).*takes \(2,\)"):
        Planner(world, PlanConfig(policy=Path("policy.zip")))


def test_damaged_files_and_models_without_rewards_are_named(world, tmp_path):
    (tmp_path / "plan.json").write_text('{"method": "guess"}')
    with pytest.raises(ProcosmError, match=r"plan\.json is damaged"):
        load_planner(tmp_path / "plan.json", world)
    world.dynamics.readouts = frozenset({"state"})
    with pytest.raises(TaskError, match="plans need rewards"):
        Planner(world, PlanConfig()).predict(world.starts.numpy())
