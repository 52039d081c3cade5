"""Answers of a pendulum near rest: MuJoCo's against its linearisation, slopes of known answers, the whole once."""

import json

import numpy as np
import pytest

from procosm.benchmarks.dream.controllers import linearised
from procosm.benchmarks.dream.near_rest import (
    ANGLE,
    QUESTIONS,
    STEPS,
    NearRestConfig,
    answer_rows,
    in_mujoco,
    near_rest,
    rest_rows,
)
from procosm.envs.dreams.weights import SHIPPED, find_checkpoint
from procosm.world_model.checkpoint import load
from procosm.world_model.errors import TaskError

LEAN = next(question for question in QUESTIONS if question.name == "lean")
PLACES = np.array([-0.3, 0.0, 0.4])


@pytest.fixture(scope="module")
def task():
    return load(find_checkpoint(SHIPPED / "InvertedPendulum", None)).task


@pytest.mark.parametrize(("name", "size"), [("glide", 0.1), ("lean", -0.01), ("push", 0.05)])
def test_mujocos_answers_are_those_of_the_linearised_task(task, name, size):
    """Less what it does by itself: the task's pole is drawn a millimetre aslant."""
    found = in_mujoco(task, name, np.array([size]), PLACES, context=3)
    assert found.frames.shape == (3, 3, 64, 64, 3)
    answers = found.states - in_mujoco(task, "rest", np.zeros(1), PLACES, context=1).states
    by_state, by_action = linearised(task)
    for answer, action in zip(answers, found.actions, strict=True):
        state = np.array([0.0, size * (name == "lean"), size * (name == "glide"), 0.0])
        np.testing.assert_allclose(answer[0], state, atol=1e-7)
        for seen in answer[1:]:
            state = by_state @ state + by_action @ action
            np.testing.assert_allclose(seen, state, rtol=0.02, atol=2e-4)


def test_only_what_glides_is_seen_to_move(task):
    for name, size in (("glide", 0.5), ("lean", 0.03), ("push", 0.3)):
        first, _, last = in_mujoco(task, name, np.array([size]), PLACES[1:2], context=3).frames[0]
        assert (first != last).any() == (name == "glide")


def test_slopes_and_leans_of_known_answers(task):
    sizes = np.array([0.01, 0.02])
    found = in_mujoco(task, "lean", np.concatenate([sizes, -sizes]), PLACES, context=1)
    real = found.states[..., ANGLE].reshape(2, 2, 3, -1)
    bent = 0.8 * real + 0.3 + 5 * real.mean(axis=0) ** 2  # an offset and what both sides have alike are no answer
    for row in answer_rows(LEAN, real, bent):
        assert row["value"] == pytest.approx(0.8, abs=1e-4)
        assert row["low"] == pytest.approx(row["high"], abs=1e-4) and row["n"] == 3
    alone = in_mujoco(task, "rest", np.zeros(1), PLACES, context=1).states[..., ANGLE]
    answer = (real[0, 0] - real[1, 0]) / 2 - sizes[0]  # of a lean of a hundredth
    rows = rest_rows(real, sizes, alone, alone + 0.4 + np.array([[1.0], [-1.0], [1.0]]) * answer)
    assert [row["horizon"] for row in rows] == list(STEPS)
    assert all(row["value"] == pytest.approx(0.01, rel=0.02) and row["unit"] == "rad" for row in rows)


def test_a_quick_run_answers_every_question_and_other_tasks_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = near_rest(NearRestConfig(SHIPPED / "InvertedPendulum", quick=True))
    assert path.parent.resolve() == tmp_path / "runs" / "near_rest"
    rows = json.loads(path.read_text())["rows"]
    asked = {(row["metric"].split(":")[0], row["horizon"]) for row in rows}
    assert asked == {(name, step) for name in ("glide", "lean", "push", "rest") for step in STEPS}
    assert all(row["n"] == 7 and row["low"] <= row["value"] <= row["high"] for row in rows)
    with pytest.raises(TaskError, match="InvertedPendulum-v5, not Reacher"):
        near_rest(NearRestConfig(SHIPPED / "Reacher", quick=True))
