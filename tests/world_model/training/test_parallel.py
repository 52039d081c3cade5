"""Two processes take the steps of one: to rounding, in copies and in shards, patterns of live blocks included."""

import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from procosm.envs.collect.collect import CollectConfig, collect
from procosm.world_model.checkpoint import load
from procosm.world_model.settings import SettingsError
from procosm.world_model.training.parallel import Parallel, check_shares
from tests.world_model.training import parallel_rank
from tests.world_model.training.parallel_rank import PARTS, STEPS, diffusion, dynamics, tokenizer


def start(rank: int, port: int, *command: str) -> subprocess.Popen:
    """A process as torchrun begins it."""
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **meeting, **place, "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


@pytest.fixture(scope="module")
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, port) -> Path:
    """What two processes have left, one of which was killed in the end."""
    made = tmp_path_factory.mktemp("parallel")
    both = [start(rank, port, sys.executable, parallel_rank.__file__, str(made)) for rank in (0, 1)]
    said = both[1].communicate(timeout=500)[1]
    killed = time.monotonic()
    said += both[0].communicate(timeout=60)[1]
    assert (both[0].returncode, both[1].returncode) == (0, -9), said
    assert time.monotonic() - killed < 30
    return made


@pytest.fixture(scope="module")
def found(folder) -> list[dict[str, Any]]:
    """What each process has found."""
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture
def double(folder):
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def alike(ours: dict[str, Any], alone: dict[str, Any], rounding: float = 1e-12) -> None:
    assert list(map(int, ours["losses"])) == list(range(STEPS))
    for step, loss in ours["losses"].items():
        assert loss == pytest.approx(alone["losses"][int(step)], rel=rounding), f"step {step}"
    for name, values in alone.get("weights", {}).items():
        torch.testing.assert_close(torch.tensor(ours["weights"][name]), torch.tensor(values), rtol=1e-9, atol=1e-9)


def test_copies_and_parts_of_a_batch_take_the_steps_of_one_process(found, tmp_path, double):
    alone = diffusion(tmp_path / "ddp.safetensors", Parallel())
    first = dynamics().net.state_dict()
    changed = [name for name in first if name.endswith(".cols") and alone["weights"][name] != first[name].tolist()]
    assert changed, "blocks are exchanged"
    unrolled = diffusion(tmp_path / "unrolled.safetensors", Parallel(), unrolled=True)
    for each in found:
        alike(each["ddp"], alone)
        alike(each["parts"], alone)
        alike(each["unrolled"], unrolled)
    alike(json.loads(json.dumps(diffusion(tmp_path / "parts.safetensors", PARTS))), alone)


def test_the_tokenizer_standardises_its_latents_over_the_whole_batch(found, tmp_path, double):
    alone = tokenizer(tmp_path / "tokenizer.safetensors", Parallel())
    for each in found:
        alike(each["tokenizer"], alone, 1e-5)  # its pixels are float32


def test_shards_take_the_steps_of_one_process_and_any_number_goes_on_from_them(found, folder, tmp_path, double):
    averaged = Parallel(ema=0.9)
    alone = diffusion(tmp_path / "alone.safetensors", averaged)
    went_on = diffusion(folder / "alone.safetensors", averaged)
    assert list(went_on["losses"]) == list(range(5, STEPS))
    assert not (folder / "alone.shards").exists() and (folder / "alone.safetensors").exists()
    for each in (*found, {"stopped": found[0]["stopped"], "fsdp": json.loads(json.dumps(went_on))}):
        whole = {"losses": each["stopped"]["losses"] | each["fsdp"]["losses"], "weights": each["fsdp"]["weights"]}
        alike(whole, alone)


def test_a_killed_process_is_reported_by_the_others_and_training_goes_on(folder, tmp_path, double):
    assert re.search("has lost another one.* the same command again", json.loads((folder / "error.json").read_text()))
    alone = diffusion(tmp_path / "alone.safetensors", Parallel())
    went_on = diffusion(folder / "killed.safetensors", Parallel())
    assert list(went_on["losses"]) == list(range(4, STEPS))
    for step, loss in went_on["losses"].items():
        assert loss == pytest.approx(alone["losses"][step], rel=1e-12)


def test_what_cannot_be_shared_out_is_refused_before_the_work():
    with pytest.raises(SettingsError, match=r"a batch of 4 \(tokenize\) cannot be taken in 3 equal parts"):
        check_shares({"tokenize": 4}, Parallel(accumulate=3))
    with pytest.raises(SettingsError, match="torchrun"):
        check_shares({}, Parallel("fsdp"))
    with pytest.raises(SettingsError, match="--ema"):
        Parallel(ema=1.0)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["ddp", "fsdp"])
def test_the_command_goes_on_after_a_process_was_killed(kind, tmp_path, port):
    """With as many processes as one likes: here alone. What it has made then opens."""
    data = collect(CollectConfig(env="InvertedPendulum", out=tmp_path, steps=400, processes=1))
    command = [sys.executable, "-m", "procosm.agents.cli", "train", "--data", str(data), "--preset", "debug"]
    command += ["--out", str(tmp_path / "world_model"), "--density", "0.5", "--block", "16"]
    both = [start(rank, port, *command, "--parallel", kind) for rank in (0, 1)]
    work, deadline = tmp_path / "world_model.training", time.monotonic() + 300
    while not (work / "tokenizer.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    both[1].kill()
    both[1].communicate()
    said = both[0].communicate(timeout=60)[1]
    assert both[0].returncode == 1 and "has lost another one" in said and "Traceback" not in said, said
    alone = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert alone.returncode == 0, alone.stderr
    load(tmp_path / "world_model")


def torchrun(*command: str) -> subprocess.Popen:
    """Two processes of a command of ours, as users begin them."""
    begin = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.Popen([*begin, *command], env=environment, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_torchrun_trains_in_shards_and_one_process_goes_on_where_it_was_stopped(tmp_path):
    data = collect(CollectConfig(env="InvertedPendulum", out=tmp_path, steps=400, processes=1))
    command = ["-m", "procosm.agents.cli", "train", "--data", str(data), "--preset", "debug", "--density", "0.5"]
    command += ["--block", "16"]
    whole, stopped = tmp_path / "whole" / "world_model", tmp_path / "stopped" / "world_model"
    run = torchrun(*command, "--out", str(whole), "--parallel", "fsdp")
    said = run.communicate(timeout=1800)[1]
    assert run.returncode == 0 and "Traceback" not in said, said
    run = torchrun(*command, "--out", str(stopped), "--parallel", "fsdp")
    work, deadline = stopped.with_name("world_model.training"), time.monotonic() + 900
    while not (work / "tokenizer.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    run.terminate()
    run.communicate(timeout=300)
    assert run.returncode != 0 and not stopped.exists()
    alone = subprocess.run(
        [sys.executable, *command, "--out", str(stopped)],
        env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True,
    )  # fmt: skip
    assert alone.returncode == 0, alone.stderr
    ours, others = load(whole), load(stopped)
    for stage in ("tokenizer", "state_head", "manifold", "diffusion", "unroll-0"):
        assert ours.metrics[stage] == pytest.approx(others.metrics[stage], rel=1e-3), stage
    assert ours.metrics["weights"] == others.metrics["weights"]
