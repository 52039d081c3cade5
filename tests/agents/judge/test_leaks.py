"""What must not leak into a judgement: training episodes, and what dreams earn after their end."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from procosm.agents.judge import evaluate, rollouts
from procosm.agents.judge.evaluate import EvaluateConfig
from procosm.agents.judge.ranking import exploits
from procosm.agents.judge.ranking.members import Member
from procosm.agents.judge.ranking.paired import Actor, play
from procosm.agents.judge.rollouts import Played, Player, play_dreams
from procosm.world_model.data.windows import tabulate
from procosm.world_model.training import growth as training_growth
from procosm.world_model.training.recipes import Training
from tests.agents.conftest import PUSH, linear_episode
from tests.conftest import CONTEXT, DECAY


def judged(episodes, linear_world, part: str):
    config = EvaluateConfig(Path("run"), horizon=6, windows=16)
    return evaluate._parts(config, linear_world, None, episodes)[part]()


def disturbed(seed: int, kind: str):
    """An episode in which nothing is as the linear world has it: its frames and states come in another order."""
    made = linear_episode(seed, 14, kind)
    order = np.random.default_rng(seed).permutation(15)
    signals = made.signals | {"state": made.signals["state"][order]}
    return dataclasses.replace(made, frames=made.frames[order], signals=signals)


def test_open_loop_is_judged_on_held_out_episodes_alone(linear_world):
    """The dream is right on one kind of episodes, up to the rounding of grey, and wrong on the other."""
    right = [linear_episode(seed, 14) for seed in range(8)] + [disturbed(seed, "train") for seed in range(8, 16)]
    wrong = [dataclasses.replace(e, kind="holdout" if e.kind == "train" else "train") for e in right]
    found = [
        [row["value"] for row in judged(each, linear_world, "open_loop")
         if (row["method"], row["metric"]) == ("dream", "state_nrmse")]
        for each in (right, wrong)
    ]  # fmt: skip
    assert len(found[0]) == 6 and max(found[0]) < 0.1 < 0.5 < min(found[1])


def test_growth_is_judged_on_constant_actions_alone(linear_world):
    held_out = [disturbed(seed, "holdout") for seed in range(8)]
    constant = [linear_episode(100 + i, 14, "constant", a) for i, a in enumerate(np.linspace(-1, 1, 8))]
    rows = judged(held_out + constant, linear_world, "growth")
    assert max(row["relative_error"] for row in rows) < 0.1


@pytest.mark.parametrize("kind", ["constant", "holdout"])
def test_no_model_is_judged_by_the_episodes_that_decided_on_its_training(kind, linear_world, tmp_path):
    """The dream is right on every other episode, of those that outlast the context, and wrong on the rest."""
    short = [linear_episode(50 + i, 2, kind) for i in range(3)]  # stand between them, and count as none
    for first, second in ((linear_episode, disturbed), (disturbed, linear_episode)):
        made = [
            made(seed, kind) if made is disturbed else made(seed, 14, kind)
            for seed, made in enumerate([first, second] * 6)
        ]
        made = [*made[:3], *short, *made[3:]]
        others = [] if kind == "holdout" else [linear_episode(90 + i, 14) for i in range(4)]
        episodes = [*made, *others, *(linear_episode(20 + i, 14, "train") for i in range(12))]
        judging = max(row["relative_error"] for row in judged(episodes, linear_world, "growth"))
        tables = {each: tabulate(episodes, each, CONTEXT) for each in {"train", "holdout", kind}}
        encoded = {each: linear_world.encode(table.frames.numpy()) for each, table in tables.items()}
        parts = linear_world.tokenizer, linear_world.dynamics, tables, 0, tmp_path
        deciding = max(row["error"] for row in training_growth.growth(Training(*parts, encoded=encoded)))
        right, wrong = (judging, deciding) if first is linear_episode else (deciding, judging)
        assert right < 0.1 < 0.5 < wrong
        if kind == "holdout":  # then the open loop is judged on held-out episodes that decided, too
            rows = judged(episodes, linear_world, "open_loop")
            errors = [row["value"] for row in rows if (row["method"], row["metric"]) == ("dream", "state_nrmse")]
            assert max(errors) < 0.1 if first is linear_episode else min(errors) > 0.5


def test_a_single_long_episode_judges_and_decides_nothing(linear_world, tmp_path):
    episodes = [linear_episode(seed, 14, kind) for seed, kind in enumerate(("train", "train", "holdout"))]
    assert judged(episodes, linear_world, "growth")[0]["n"] == 1
    tables = {each: tabulate(episodes, each, CONTEXT) for each in ("train", "holdout")}
    encoded = {each: linear_world.encode(table.frames.numpy()) for each, table in tables.items()}
    found = training_growth.growth(
        Training(linear_world.tokenizer, linear_world.dynamics, tables, 0, tmp_path, encoded=encoded)
    )
    verdict = training_growth.growth_verdict(found, 0.5)
    assert verdict["passed"] is None and "beside those that judge" in verdict["reason"]


def ended(z: np.ndarray, actions: np.ndarray, most: int) -> tuple[float, int]:
    """Return and steps of the linear world: it ends where its first number passes 1.5, or after so many steps."""
    total = 0.0
    for step in range(most):
        z = DECAY * z + PUSH * actions[step]
        total += float(z.mean())
        if z[0] > 1.5:
            break
    return total, step + 1


def test_a_dream_that_has_ended_earns_nothing_more(linear_world, monkeypatch):
    """Dreams that end at different steps, side by side, against the recurrence of each alone."""
    world = dataclasses.replace(linear_world, reward_range=None)  # what it says is what is counted
    monkeypatch.setattr(rollouts, "opened", lambda folder, device: world)
    n, grey = 40, np.linspace(140, 158, 40).astype(np.uint8)
    frames = np.broadcast_to(grey[:, None, None, None], (n, 40, 40, 3)).copy()
    begun = [Played(seed, 0.0, 1, False, -1, frame) for seed, frame in enumerate(frames)]
    found = play_dreams(Player(Path("none"), "random", observation="state"), begun)
    drawn = np.random.default_rng(0)
    actions = np.stack([drawn.uniform(-1.0, 1.0, (n, 1)).astype(np.float32) for _ in range(7)])
    expected = [ended(np.full(4, (grey[i] - 128.0) / 20), actions[:, i], 7) for i in range(n)]
    assert [episode.steps for episode in found] == [steps for _, steps in expected]
    assert len({steps for _, steps in expected}) > 2, "they end at different steps"
    assert [episode.total for episode in found] == pytest.approx([total for total, _ in expected], abs=1e-4)


class Clock:
    """A world that pays 1 a step for ever and ends slot i after i + 1 steps."""

    def __init__(self, slots: int) -> None:
        self.observed, self._steps = np.zeros((slots, 2), np.float32), np.zeros(slots, np.int64)

    def begin(self, slots, seeds):
        self._steps[slots] = 0

    def step(self, slots, actions):
        self._steps[slots] += 1
        return np.ones(len(slots)), self._steps[slots] > slots, np.zeros(len(slots), bool)


def test_exploits_are_searched_for_by_what_dreams_earn_before_their_end(linear_world):
    member = Member("still", "exploit", push=(0.0,))
    found = exploits._returns(Clock(6), linear_world, [member, member], [0, 1, 2], 10)
    assert found.tolist() == [2.0, 5.0], "means of 1, 2, 3 and of 4, 5, 6 steps"


def test_a_panels_episodes_count_their_own_steps_alone(linear_world):
    """Each slot's episodes last as long as the slot says, whoever plays beside them; horizons count the first steps."""
    rows = {}
    member = Member("pushes", "open-loop", push=(0.5,))
    play(Clock(3), linear_world.task, [member], range(6), (2,), lambda m, r: rows.setdefault(m.name, r), "test")
    for row in rows["pushes"]:
        assert row["return"] == row["steps"] and row["return_2"] == min(row["steps"], 2)
        assert row["effort"] == pytest.approx(0.25 * row["steps"]), "the squares of its own actions"
    assert {row["steps"] for row in rows["pushes"]} == {1, 2, 3}


def test_chance_of_an_episode_is_its_seeds_and_its_policys(linear_world):
    noisy = Member("noisy", "degraded", push=(0.0,), epsilon=1.0)
    first, again, other = (
        Actor(member, linear_world.task, 1) for member in (noisy, noisy, dataclasses.replace(noisy, name="b"))
    )
    drawn = []
    for actor, seed in ((first, 3), (again, 3), (again, 4), (other, 3)):
        actor.begin(0, seed)
        drawn.append(float(actor.act(np.array([0]), np.zeros((1, 2), np.float32), np.zeros(1))[0, 0]))
    assert drawn[0] == drawn[1] and len(set(drawn)) == 3


def test_no_two_judgements_begin_with_the_same_episodes():
    """Seeds of collecting, searching, ranking and judging lie apart by more than any of them uses."""
    from procosm.benchmarks.dream import ranking, trust

    seeds = [evaluate.JUDGING_SEED, ranking.FIRST_SEED, trust.FIRST_SEED, exploits.FIRST_SEED]
    assert min(seeds) >= 1_000_000 and min(abs(a - b) for a in seeds for b in seeds if a is not b) >= 10_000
