"""A planner in episodes side by side remembers each one's plan, and what was asked for there."""

import dataclasses

import numpy as np
import pytest

from procosm.agents.policy.plan.episodes import Planned
from procosm.agents.policy.plan.planner import PlanConfig, Planner, load_planner, save_plan
from procosm.envs.play.pair import Pair
from procosm.envs.play.policy import SavedPilot
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.registry import with_condition
from tests.conftest import restless_model, simulated_task

SETTINGS = PlanConfig(horizon=3, candidates=16, iterations=2, elites=4)


@pytest.fixture(scope="module")
def model() -> WorldModel:
    """Untrained dynamics that take words, every weight of which counts."""
    made = restless_model(simulated_task("Planned-v0", 32, 4), change=lambda config: with_condition(config, "text"))
    made.dynamics.outcome_head.net[-1].bias[1] -= 9.0  # dreams last
    return dataclasses.replace(made, texts=("left", "right"))


def test_plans_go_on_also_after_other_episodes_have_ended(model):
    observed, left = model.starts[:3].numpy(), np.array([0, 2])
    act, planner, forgetful = Planned(Planner(model, SETTINGS)), Planner(model, SETTINGS), Planner(model, SETTINGS)
    action, state = planner.predict(observed)
    np.testing.assert_array_equal(act(observed, np.arange(3)), action)
    np.testing.assert_array_equal(forgetful.predict(observed)[0], action)
    for _ in range(2):  # the middle one has ended
        action, after = planner.predict(observed[left], tuple(part[left] for part in state))
        np.testing.assert_array_equal(act(observed[left], left), action)
        assert not np.array_equal(forgetful.predict(observed[left])[0], action)
        for kept, new in zip(state, after, strict=True):
            kept[left] = new


def test_plans_are_for_what_is_asked_for(model):
    """By MPPI, in whose plan every candidate's return counts."""
    settings, observed, slots = dataclasses.replace(SETTINGS, method="mppi"), model.starts[:2].numpy(), np.arange(2)

    def chosen(*said: str) -> np.ndarray:
        return Planned(Planner(model, settings), said)(observed, slots)

    both, right, nothing = chosen("left", "right"), chosen("right", "right"), chosen("", "")
    np.testing.assert_allclose(both[1], right[1], rtol=1e-5)
    assert abs(both[0] - right[0]) > 1e-4 < abs(nothing[1] - right[1])
    np.testing.assert_array_equal(nothing, chosen())


def test_in_play_plans_are_for_what_the_dream_was_told(model, tmp_path):
    plan, pair = save_plan(dataclasses.replace(SETTINGS, method="mppi"), tmp_path / "plan.json"), Pair(model, 1, 9)
    assert pair.without_truth  # nothing simulates this task

    def chosen(text: str) -> tuple[np.ndarray, np.ndarray]:
        pair.instruction = text
        scene = pair.begin(0)
        pilot = SavedPilot(plan, model, opens=lambda path, model, trust: load_planner(path, model))
        return pilot.act(pair, [scene], "dream"), scene.moment.latents.numpy()

    (left, seen), (right, same) = chosen("left"), chosen("right")
    np.testing.assert_array_equal(seen, same)
    np.testing.assert_allclose(left, load_planner(plan, model).predict(seen, said=["left"])[0], rtol=1e-6)
    assert abs(left - right) > 1e-4
