"""A judgement: what it writes agrees with its own rows and with the data, and it goes on where it was killed."""

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest
from scipy import stats

from procosm.agents.judge.evaluate import JUDGING_SEED, EvaluateConfig, evaluate
from procosm.agents.judge.summary import real_steps, summarise
from procosm.agents.road import evaluate_stage
from procosm.agents.stages import StageError
from procosm.world_model.data.episodes import load_episodes, load_task
from procosm.world_model.errors import CheckpointError, ProcosmError
from tests.agents.conftest import SMALL_JUDGEMENT


@pytest.fixture
def copied_run(finished_run, tmp_path):
    return shutil.copytree(finished_run, tmp_path / "run")


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def test_returns_are_those_of_the_rows(finished_run):
    with (finished_run / "evaluation" / "returns.csv").open() as file:
        rows = list(csv.DictReader(file))
    found = metrics_of(finished_run)["returns"]
    for world, policy in (("mujoco", "trained"), ("mujoco", "zero"), ("mujoco", "random"), ("dream", "trained")):
        chosen = [row for row in rows if (row["world"], row["policy"]) == (world, policy)]
        assert [int(row["seed"]) for row in chosen] == [JUDGING_SEED, JUDGING_SEED + 1, JUDGING_SEED + 2]
        values = [float(row["return"]) for row in chosen]
        assert found[world][policy]["mean"] == pytest.approx(np.mean(values))
        assert found[world][policy]["low"] <= np.mean(values) <= found[world][policy]["high"]


def test_the_gap_pairs_each_dream_with_its_own_episode():
    rows = [
        {"world": world, "policy": "trained", "seed": seed, "return": value, "steps": 1}
        for world, values in (("mujoco", (1.0, 5.0, 2.0)), ("dream", (2.0, 9.0, 2.0)))
        for seed, value in enumerate(values)
    ]
    gap = summarise(rows)["gap"]
    around = stats.ttest_1samp([1.0, 4.0, 0.0], 0.0).confidence_interval()
    assert (gap["mean"], gap["low"], gap["high"]) == pytest.approx((5 / 3, around.low, around.high))


def test_real_steps_are_counted_from_the_data_by_purpose(finished_run):
    episodes, task = load_episodes(finished_run / "data"), load_task(finished_run / "data")
    looks = json.loads((finished_run / "policy" / "training.json").read_text())["truth"]
    found = real_steps(looks, task, episodes, [{"world": "mujoco", "steps": 7}, {"world": "dream", "steps": 9}])
    assert found["collected"] == 400 == sum(len(episode.actions) for episode in episodes)
    assert found["collected_train"] + found["collected_holdout"] + found["collected_constant"] == 400
    assert found["looks_while_training"] == sum(look["real_steps"] for look in looks)
    assert found["judging"] == 7


def test_every_promised_number_and_file_is_there(finished_run):
    found = metrics_of(finished_run)
    assert {row["method"] for row in found["open_loop"]} == {
        "dream",
        "shuffled actions",
        "copy last frame",
        "tokenizer",
    }
    assert {row["metric"] for row in found["open_loop"]} == {"pixel_mse", "psnr_db", "latent_mse", "state_nrmse"}
    assert all(found["speed"][key] > 0 for key in ("dream_latent", "dream_state", "dream_pixels", "mujoco"))
    stages = ("data", "world_model", "policy", "evaluation")
    for stage in stages:
        record = json.loads((finished_run / "stages" / f"{stage}.json").read_text())
        assert found["seconds"][stage] == record["seconds"] > 0
    assert tuple(found["seconds"]) == stages
    assert found["provenance"]["world_model"] and found["provenance"]["evaluation"]["versions"]["torch"]
    folder = finished_run / "evaluation"
    for name in ("comparison.mp4", "policy_mujoco.mp4", "policy_dream.mp4", "open_loop.csv", "returns.csv"):
        assert (folder / name).stat().st_size > 0
    assert (folder / "metrics.json").read_text() == (finished_run / "metrics.json").read_text()


def test_a_killed_judgement_goes_on_with_the_part_it_was_at(copied_run):
    folder = copied_run / "evaluation"
    before = metrics_of(copied_run)
    for name in ("open_loop.json", "metrics.json"):
        (folder / name).unlink()
    returns = json.loads((folder / "returns.json").read_text())
    returns[0]["return"] = 123.0  # a finished part is read, not measured again
    (folder / "returns.json").write_text(json.dumps(returns))
    evaluate(EvaluateConfig(copied_run, **SMALL_JUDGEMENT))
    after = metrics_of(copied_run)
    assert after["open_loop"] == before["open_loop"]
    assert after["returns"]["mujoco"]["trained"] != before["returns"]["mujoco"]["trained"]


def test_another_policy_in_the_run_is_noticed(copied_run):
    path = copied_run / "policy" / "policy.zip"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(StageError, match="the policy it was made from has changed"):
        evaluate_stage(EvaluateConfig(copied_run, **SMALL_JUDGEMENT))


def test_a_run_without_a_world_model_says_how_to_make_one(tmp_path):
    with pytest.raises(CheckpointError, match="procosm"):
        evaluate(EvaluateConfig(tmp_path))


@pytest.mark.parametrize("name", ["episodes", "horizon", "windows", "dreams", "processes"])
def test_settings_below_one_are_refused(tmp_path, name):
    with pytest.raises(ProcosmError, match=f"--{name} 0 must be at least 1"):
        evaluate(dataclasses.replace(EvaluateConfig(tmp_path), **{name: 0}))
