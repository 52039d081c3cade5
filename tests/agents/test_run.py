"""The whole road: what is finished is left alone, other settings are named, and kill -9 in any stage costs nothing."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from procosm.agents.policy.train import PolicyConfig
from procosm.agents.run import RunConfig, Stages, policy_stage, run, train_stage
from procosm.agents.stages import StageError, record_path
from procosm.envs.collect.policy_file import load_policy
from procosm.world_model.autoregressive.dynamics import AutoregressiveDynamics
from procosm.world_model.checkpoint import load
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import read_json
from procosm.world_model.settings import SettingsError
from procosm.world_model.training.train import TrainConfig
from tests.agents.conftest import SMALL_POLICY

ARGUMENTS = ["--env", "InvertedPendulum", "--preset", "debug", "--steps", "400", "--dreams", "8", "--horizon", "4"]
ARGUMENTS += ["--iterations", "4", "--episodes", "2", "--processes", "1"]

STAGES = {
    "collecting": "data.parts",
    "the world model": "world_model.training/diffusion.safetensors",
    "the policy": "policy/training.zip",
    "judging": "evaluation/returns.json",
}
"""A file that appears in the middle of each stage."""


def test_a_finished_stage_of_a_run_is_left_alone(finished_run):
    path = finished_run / "policy" / "policy.zip"
    before = path.stat().st_mtime_ns
    config = PolicyConfig(finished_run / "world_model", finished_run / "policy", **SMALL_POLICY, truth_every=2)
    assert policy_stage(config) == finished_run / "policy"
    assert path.stat().st_mtime_ns == before


def test_a_world_model_begun_when_blocks_were_16_by_default_is_gone_on_with(finished_run, tmp_path):
    """Its record names them; who asks for other blocks is told."""
    run = shutil.copytree(finished_run, tmp_path / "run")
    record = record_path(run / "world_model")
    record.write_text(json.dumps(read_json(record) | {"config": read_json(record)["config"] | {"block": 16}}))
    config = TrainConfig(data=run / "data", out=run / "world_model", preset="debug")
    assert train_stage(config) == run / "world_model"
    with pytest.raises(StageError, match="block was 16, now 32"):
        train_stage(dataclasses.replace(config, block=32))


def test_other_settings_of_a_run_are_named_and_nothing_changes(finished_run):
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    with pytest.raises(StageError, match=r"steps was 400, now 500.*delete .*data"):
        run(RunConfig("InvertedPendulum", finished_run, steps=500, preset="debug"))
    assert before == {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}


def test_a_run_asks_its_training_for_the_family(tmp_path):
    asked = RunConfig("InvertedPendulum", tmp_path / "run", family="autoregressive")
    assert Stages.of(asked).train.family == "autoregressive" and Stages.of(asked).train.preset == "small"
    with pytest.raises(SettingsError, match="no preset is called 'wide': choose one of debug, small"):
        dataclasses.replace(asked, preset="wide")
    with pytest.raises(SettingsError, match=r"--family autoregressive has none: give ppo or sac"):
        dataclasses.replace(asked, algorithm="shac")
    assert Stages.of(dataclasses.replace(asked, family="diffusion", algorithm="shac")).policy.algorithm == "shac"


@pytest.mark.slow
def test_the_whole_road_with_dreams_that_are_made_of_tokens(finished_run, tmp_path):
    run_folder = tmp_path / "run"
    shutil.copytree(finished_run / "data", run_folder / "data")
    (run_folder / "stages").mkdir()
    shutil.copy(finished_run / "stages" / "data.json", run_folder / "stages")
    settings = {"steps": 400, "dreams": 4, "horizon": 2, "iterations": 1, "episodes": 2, "processes": 1}
    page = run(RunConfig("InvertedPendulum", run_folder, preset="debug", family="autoregressive", **settings))
    model, metrics = load(run_folder / "world_model"), read_json(run_folder / "metrics.json")
    assert isinstance(model.dynamics, AutoregressiveDynamics) and page.exists()
    assert metrics["returns"]["mujoco"].keys() == {"trained", "zero", "random"}
    assert metrics["returns"]["dream"]["trained"]["n"] == 2


def strict(text: str) -> object:
    """A JSON value without Infinity or NaN, also where a string in it is JSON again."""

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} stands in JSON")

    value = json.loads(text, parse_constant=refuse)
    inner = [value]
    while inner:
        each = inner.pop()
        if isinstance(each, str) and each[:1] in ("{", "["):
            with contextlib.suppress(json.JSONDecodeError):
                strict(each)
        elif isinstance(each, dict | list):
            inner.extend(each.values() if isinstance(each, dict) else each)
    return value


def test_no_file_of_a_run_holds_infinity_in_its_json(finished_run):
    found = [path for path in finished_run.rglob("*.json") if strict(path.read_text()) is not None]
    assert {"metadata.json", "task.json", "training.json", "metrics.json"} <= {path.name for path in found}


def start(out: Path) -> subprocess.Popen:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "procosm.agents.cli", "run", *ARGUMENTS, "--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)


@pytest.mark.slow
def test_killed_in_every_stage_a_run_ends_as_if_it_had_not_been(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert start(whole).wait() == 0
    for appears in STAGES.values():
        process = start(killed)
        while not (killed / appears).exists():
            assert process.poll() is None, f"the run ended before {appears} appeared"
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start(killed).wait() == 0
    for name in ("tokenizer", "dynamics", "starts"):
        path = f"world_model/{name}.safetensors"
        assert (whole / path).read_bytes() == (killed / path).read_bytes()
    first, second = (load_policy(out / "policy" / "policy.zip").state_dict() for out in (whole, killed))
    assert all(torch.equal(first[name], second[name]) for name in first)
    first, second = (read_json(out / "metrics.json") for out in (whole, killed))
    for part in ("returns", "open_loop", "growth", "real_steps", "verdicts"):
        assert first[part] == second[part]
    assert (killed / "report.html").exists()


@pytest.mark.parametrize("lost", ["config.json", "dynamics.safetensors"])
def test_a_checkpoint_that_lost_a_file_is_not_called_finished_and_made_again(finished_run, tmp_path, lost):
    copy = shutil.copytree(finished_run, tmp_path / "run")
    (copy / "world_model" / lost).unlink()
    train_stage(TrainConfig(data=copy / "data", out=copy / "world_model", preset="debug"))
    for name in ("tokenizer", "dynamics", "starts", "trust"):
        path = f"world_model/{name}.safetensors"
        assert (copy / path).read_bytes() == (finished_run / path).read_bytes()


def test_a_damaged_policy_is_named(finished_run, tmp_path):
    copy = shutil.copytree(finished_run, tmp_path / "run")
    (copy / "policy" / "policy.zip").write_bytes(b"half")
    with pytest.raises(ProcosmError, match=r"policy\.zip is no policy that can be read"):
        policy_stage(PolicyConfig(copy / "world_model", copy / "policy", **SMALL_POLICY, truth_every=2))
