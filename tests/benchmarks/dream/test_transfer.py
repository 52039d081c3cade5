"""Transfer: which run each arm learns from, its statistics against SciPy, and going on."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from procosm.agents.policy.train import PolicyConfig
from procosm.benchmarks.dream import transfer, transfer_arms
from procosm.benchmarks.dream.transfer import Cell, TransferConfig, main, plan, rows_of, run_of
from procosm.benchmarks.dream.transfer_arms import Desk, Practice, online
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import write_json

TASK = "InvertedPendulum"
TINY = Practice("ppo", 4, 2, 0.99, episodes=2, shares=(0.5, 1.0), gradient_steps=2, clone_steps=2)


@pytest.fixture(scope="module")
def runs(truth_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with a little real data and an untrained world model."""
    home = tmp_path_factory.mktemp("bench")
    collect(CollectConfig(TASK, home / TASK / "seed0", steps=300, processes=1))
    shutil.copytree(truth_checkpoint, home / TASK / "seed0" / "world_model")
    return home


@pytest.fixture
def config(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TransferConfig:
    monkeypatch.setattr(transfer, "RESULTS", tmp_path / "results")
    monkeypatch.setitem(transfer.PRACTICE, TASK, TINY)
    return TransferConfig(runs, tmp_path / "out", tasks=(TASK,), seeds=1)


def test_an_online_learner_is_judged_on_its_way(runs, tmp_path):
    points = online(Desk(runs / TASK / "seed0", True, tmp_path, 0, TINY), "sac")
    assert [point.real_steps for point in points] == [150, 300]
    assert [len(point.returns) for point in points] == [2, 2]
    assert 0 < points[0].cpu_seconds < points[1].cpu_seconds
    assert {path.name for path in tmp_path.iterdir()} == {"steps-150.zip", "steps-300.zip"}


def test_a_runs_own_policy_is_taken_only_where_it_was_trained_alike(runs, tmp_path, monkeypatch):
    run = tmp_path / "seed0"
    shutil.copytree(runs / TASK / "seed0", run)
    trained_here = transfer_arms.Point(300, [0.0], 1.0)
    monkeypatch.setattr(transfer_arms, "_practised", lambda *_: [trained_here])
    desk = Desk(run, True, tmp_path / "out", 0, TINY)
    assert transfer_arms.dream(desk) == [trained_here], "the run has no policy"
    settings = {k: v for k, v in asdict(desk.settings()).items() if not isinstance(v, Path)} | {"truth_every": 12}
    write_json(run / "stages" / "policy.json", {"config": settings})
    rows = [
        {"world": world, "policy": "trained", "seed": seed, "return": value}
        for seed, value in zip((*desk.seeds(), 1), (10.0, 30.0, 99.0), strict=True)
        for world in ("mujoco", "dream")
    ]
    write_json(run / "evaluation" / "returns.json", rows)
    assert transfer_arms.dream(desk) == [transfer_arms.Point(300, [10.0, 30.0], None, of_the_run=True)]
    assert transfer_arms.dream(replace(desk, own=False)) == [trained_here]
    longer = replace(desk, practice=replace(TINY, iterations=3))
    assert transfer_arms.dream(longer) == [trained_here], "the run's was trained for 2 iterations"
    unjudged = replace(desk, practice=replace(TINY, episodes=3))
    assert transfer_arms.dream(unjudged) == [trained_here], "the run's was judged on 2 of 3 episodes"


def test_rows_have_scipys_intervals_and_pair_seeds():
    def cell(arm: str, seed: int) -> Cell:
        return Cell("A", arm, seed)

    values = {"dream": [5.0, 7.0, 9.0, 8.0], "cloned": [1.0, 4.0, 3.0, 1.0]}
    found = {
        cell(arm, seed): {"run": "seed0", "points": [{"real_steps": 10, "returns": [v - 1, v + 1], "cpu_seconds": v}]}
        for arm, each in values.items()
        for seed, v in enumerate(each)
    }
    found[cell("cloned", 9)] = {
        "run": "seed0", "points": [{"real_steps": 10, "returns": [2.0], "cpu_seconds": None}]
    }  # fmt: skip
    rows = {(row["metric"], row["arm"]): row for row in rows_of(found) if "seed" not in row}
    dream, pairs = rows["return mean", "dream"], rows["return minus dream", "cloned"]
    low, high = stats.t.interval(0.95, 3, np.mean(values["dream"]), stats.sem(values["dream"]))
    assert (dream["value"], dream["n"]) == (7.25, 4)
    assert (dream["low"], dream["high"]) == pytest.approx((low, high))
    between = stats.ttest_rel(values["cloned"], values["dream"]).confidence_interval(0.95)
    assert (pairs["low"], pairs["high"], pairs["n"]) == pytest.approx((between.low, between.high, 4)), (
        "seed 9 has no pair"
    )
    assert rows["return mean", "cloned"]["n"] == 5 and rows["CPU seconds of learning", "cloned"]["n"] == 4


def test_cells_are_done_once_and_the_missing_are_named(config, monkeypatch):
    only = replace(config, only=(f"{TASK}/untrained", f"{TASK}/cloned", f"{TASK}/offline", f"{TASK}/shuffled"))
    [result] = [json.loads(path.read_text()) for path in main(only)]
    assert result["details"]["missing"] == [f"{TASK}/{arm}-0" for arm in ("dream", "online_ppo", "online_sac")]
    assert {row["task"] for row in result["rows"]} == {"InvertedPendulum-v5"}, "as a report looks for it"
    stored = {cell: json.loads((config.out / f"{cell}.json").read_text()) for cell in result["details"]["cells"]}
    assert len(stored) == 6 and stored == result["details"]["cells"], "what goes on elsewhere from these is the same"
    steps = {row["arm"]: row["real_steps"] for row in result["rows"] if row["metric"] == "return"}
    assert steps == {"untrained": 0} | dict.fromkeys(
        ("cloned", "cloned_best", "offline_sac", "offline_td3_bc", "shuffled"), 300
    )
    assert (config.out.parent / "results" / "figures" / "transfer_invertedpendulum.png").stat().st_size > 10_000
    monkeypatch.setattr(transfer, "ARMS", dict.fromkeys(transfer.ARMS, lambda _: pytest.fail("a cell was done twice")))
    assert json.loads(main(only)[0].read_text())["rows"] == result["rows"]


def test_cells_judged_on_more_episodes_count_by_the_first(config):
    cell = Cell(TASK, "cloned", 0)
    points = [{"real_steps": 300, "returns": [1.0, 3.0, 80.0], "cpu_seconds": 1.0}]
    write_json(transfer.cell_path(config, cell), {"run": "seed0", "world_model_commit": None, "points": points})
    row = json.loads(transfer.write(config, TASK, list(plan(config))).read_text())["rows"][0]
    assert (row["value"], row["n"]) == (2.0, TINY.episodes)
    assert not list((config.out.parent / "results").glob("figures/*")), "a single arm has nothing to compare"


def test_ppo_learns_online_only_beside_a_dream_of_ppo():
    cells = list(plan(TransferConfig(tasks=(TASK, "Reacher"), seeds=2)))
    assert Cell(TASK, "online_ppo", 1) in cells and Cell("Reacher", "online_sac", 1) in cells
    assert not [cell for cell in cells if (cell.task, cell.arm) == ("Reacher", "online_ppo")]
    assert len(set(cells)) == len(cells) == 2 * (9 + 8)


def test_a_seed_takes_its_own_run_or_the_next_in_turn(tmp_path):
    for seed in (0, 2):
        (tmp_path / TASK / f"seed{seed}" / "world_model").mkdir(parents=True)
    taken = [run_of(tmp_path, Cell(TASK, "dream", seed)) for seed in range(4)]
    assert [(run.name, own) for run, own in taken] == [
        ("seed0", True), ("seed2", False), ("seed2", True), ("seed2", False)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tasks": ("Pong",)}, "Pong: there are settings for InvertedPendulum"),
        ({"seeds": 0}, "--seeds 0"),
        ({"only": ("Reacher",)}, "no cell's name begins with Reacher"),
        ({"runs": Path("nowhere")}, "benchmarks.dream.pipeline --env InvertedPendulum"),
    ],
)
def test_bad_input_says_what_to_do(config, changes, message):
    with pytest.raises(ProcosmError, match=message):
        main(replace(config, **changes))


def test_the_dream_is_trained_as_train_policy_trains_by_default(runs, tmp_path):
    desk = Desk(runs, True, tmp_path, 0, transfer.PRACTICE[TASK])
    assert desk.settings() == PolicyConfig(runs / "world_model", tmp_path, truth_every=0)
