"""The benchmark of a new robot: its control has actions that mean nothing, all arms have equal steps, and steps that
are saved are those that curves of known form say.
"""

import numpy as np
import pytest

from procosm.benchmarks.dream.new_robot import ARMS, in_another_order, sizes
from procosm.benchmarks.dream.new_robot_figure import LOOKS, draw
from procosm.benchmarks.dream.new_robot_worth import FULL, LOW_RANK, SCRATCH, steps_as_good, worth
from procosm.world_model.data.episodes import Episode, load_episodes, write_dataset
from tests.conftest import simulated_task


def test_the_control_has_the_same_actions_in_another_order(tmp_path):
    task = simulated_task("Any-v0", 16, 2, actions=3)
    generator = np.random.default_rng(1)
    episode = Episode(
        frames=generator.integers(0, 256, (21, 16, 16, 3), np.uint8),
        actions=generator.uniform(-1, 1, (20, 3)).astype(np.float32),
        terminated=False,
        kind="train",
        signals={"state": np.zeros((21, 2), np.float32), "reward": np.zeros(20, np.float32)},
    )
    write_dataset(tmp_path / "data", task, [(episode, None)], {}, None)
    (mixed,) = load_episodes(in_another_order(tmp_path / "data", tmp_path / "shuffled"))
    assert np.array_equal(mixed.frames, episode.frames) and not np.array_equal(mixed.actions, episode.actions)
    assert sorted(map(tuple, mixed.actions)) == sorted(map(tuple, episode.actions))


def test_all_arms_have_equal_steps_and_the_unrolled_stage_is_never_prolonged():
    stages = sizes(400).stages
    assert stages["unroll"].extensions == 0 and stages["unroll"].growth_gate is None
    assert {stage.steps for stage in stages.values()} == {200, 400, 50}


BUDGETS = (500, 1000, 4000)


def error_of(steps: float) -> float:
    """A straight line over the logarithm of steps."""
    return 3.0 - 0.25 * np.log(steps)


def test_as_many_steps_are_as_good_as_the_curve_says():
    errors = [error_of(n) for n in BUDGETS]
    assert [steps_as_good(BUDGETS, errors, error_of(n)) for n in (500, 700, 1500, 4000)] == pytest.approx(
        [500, 700, 1500, 4000]
    )
    # Beyond what was tried nothing is said but its end.
    assert steps_as_good(BUDGETS, errors, 9.0) == pytest.approx(500)
    assert steps_as_good(BUDGETS, errors, 0.0) == pytest.approx(4000)
    # A model that got worse with more steps could have been kept: 1000 steps are as good as 1000.
    assert steps_as_good(BUDGETS, [2.0, 1.0, 1.5], 1.0) == pytest.approx(1000)


def rows_of(seeds: int) -> list[dict]:
    """Errors and returns of arms that are worth thrice (all weights) and twice (low rank) their real steps."""
    rows = []
    for arm, times, budgets in ((SCRATCH, 1, BUDGETS), (FULL, 3, BUDGETS[:2]), (LOW_RANK, 2, BUDGETS[:1])):
        for seed in range(seeds):
            for n in budgets:
                own = {"task": "Any-v0", "arm": arm, "real_steps": n, "seed": seed}
                error = error_of(times * n) + seed
                dream = {"metric": "pixel_mse", "method": "dream", "horizon": 4, "value": error, "unit": "1"}
                rows.append({**own, **dream})
                rows.append({**own, **dream, "method": "shuffled actions", "value": 99.0})
                rows.append({**own, "metric": "return", "value": -10 * error, "unit": "return"})
    return rows


@pytest.mark.parametrize("what", ["pixel_mse after 4 steps", "return"])
def test_steps_saved_are_those_of_the_curves_whatever_the_seed_adds(what):
    found = {
        (row["arm"], row["real_steps"]): row
        for row in worth(rows_of(3))
        if row["metric"] == "real steps saved" and row["of"] == what
    }
    assert found[FULL, 500]["seeds"] == "1000, 1000, 1000" and found[FULL, 1000]["seeds"] == "2000, 2000, 2000"
    assert found[LOW_RANK, 500]["value"] == pytest.approx(500)
    assert found[FULL, 500]["at_least"] == found[FULL, 500]["at_most"] == 0
    (less,) = (row for row in worth(rows_of(3)) if row["metric"] == "low rank less all weights" and row["of"] == what)
    wanted = error_of(1000) - error_of(1500)
    assert less["value"] == pytest.approx(wanted if what != "return" else -10 * wanted)


def test_the_picture_has_every_arm(tmp_path):
    assert {arm.name for arm in ARMS} == LOOKS.keys()
    rows = rows_of(2)
    drawn = draw([*rows, *worth(rows)], tmp_path / "figures" / "new_robot.png")
    assert drawn.stat().st_size > 10_000
