"""Beyond the logs: who acted is judged as plain Gymnasium judges it, and a run goes on where it stopped."""

import dataclasses
import json
import shutil
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO

from procosm.agents.judge.evaluate import JUDGING_SEED
from procosm.benchmarks.dream import beyond
from procosm.benchmarks.dream.beyond import BeyondConfig, acted, claim, main, rows_of
from procosm.benchmarks.dream.transfer_arms import Practice
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.collect.policy_file import load_policy, save_learner
from procosm.world_model.checkpoint import load
from procosm.world_model.data.episodes import acting_policies
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import read_json, sha256, write_json


@pytest.fixture(scope="module")
def run(truth_checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose data an untrained policy helped to collect, with an untrained world model."""
    home = tmp_path_factory.mktemp("run")
    save_learner(PPO("MlpPolicy", gym.make("InvertedPendulum-v5"), seed=0, n_steps=8, batch_size=8), home / "saved.zip")
    data = collect(CollectConfig("InvertedPendulum", home, 300, f"policy:{home}/saved.zip,noise", processes=1))
    shutil.copytree(truth_checkpoint, home / "world_model")
    told = read_json(home / "world_model/provenance.json")
    write_json(home / "world_model/provenance.json", told | {"policies": acting_policies(data)})
    return home


def test_every_arm_once_small_and_gone_on_with(run, monkeypatch):
    result = json.loads(main(BeyondConfig(run, quick=True)).read_text())
    policy, env, returns = load_policy(run / "saved.zip"), gym.make("InvertedPendulum-v5"), []
    for seed in range(JUDGING_SEED, JUDGING_SEED + 3):
        seen, total, end = env.reset(seed=seed)[0], 0.0, False
        while not end:
            seen, reward, ended, cut, _ = env.step(policy.predict(np.float32(seen), deterministic=True)[0])
            total, end = total + reward, ended or cut
        returns.append(total)
    assert result["details"]["returns"]["acted/saved"] == returns
    assert {row["arm"] for row in result["rows"]} == set(beyond.NAMES)
    assert (run / "beyond/quick/figures/beyond_invertedpendulum.png").stat().st_size > 10_000
    monkeypatch.setattr(beyond, "ARMS", {})  # nothing is learned again
    assert json.loads(main(BeyondConfig(run, quick=True)).read_text())["rows"] == result["rows"]


def test_cells_of_other_settings_are_not_taken_for_those_asked_for(run, tmp_path):
    model, config = load(run / "world_model"), BeyondConfig(run)
    claim(config, model, tmp_path, Practice("ppo", 384, 72, 0.99, 20, ()))
    claim(config, model, tmp_path, Practice("ppo", 384, 72, 0.99, 20, ()))
    with pytest.raises(ProcosmError, match="other settings"):
        claim(config, model, tmp_path, Practice("ppo", 384, 24, 0.99, 20, ()))


def test_policies_of_one_name_in_two_folders_are_two(run, tmp_path):
    told = {}
    for folder in ("seed0", "seed1"):
        path = tmp_path / folder / "policy.zip"
        path.parent.mkdir()
        path.write_bytes(folder.encode())
        told[str(path)] = sha256(path)
    members = acted(dataclasses.replace(load(run / "world_model"), provenance={"policies": told}))
    assert [member.name for member in members] == ["seed0-policy", "seed1-policy"]


def test_an_arm_stands_above_the_best_that_acted_by_the_difference_of_means():
    found = {"acted/a": [1.0, 3.0], "acted/b": [5.0, 7.0], "dream/0": [9.0, 9.0], "dream/1": [10.0, 12.0]}
    rows = {(row["metric"], row["arm"]): row for row in rows_of("T", found)}
    above = rows["return above the best that acted", "dream"]
    assert above["value"] == pytest.approx((9 + 11) / 2 - 6) and above["n"] == 2
    assert ("return mean", "acted") not in rows


def test_without_those_who_acted_it_says_what_to_do(run, tmp_path):
    model = load(run / "world_model")
    with pytest.raises(ProcosmError, match="collect with --policy"):
        acted(dataclasses.replace(model, provenance={}))
    (tmp_path / "other.zip").write_bytes(b"other")
    with pytest.raises(ProcosmError, match=r"other\.zip is not the policy"):
        acted(dataclasses.replace(model, provenance={"policies": {f"{tmp_path}/other.zip": "f00"}}))
