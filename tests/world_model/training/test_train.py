"""Training from disk to checkpoint: resumable to the bit, and clear about what it cannot use."""

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

from procosm.world_model.checkpoint import load
from procosm.world_model.data.episodes import acting_policies, load_episodes, load_task
from procosm.world_model.data.windows import context_index, tabulate
from procosm.world_model.diffusion.recipe import Read
from procosm.world_model.errors import CheckpointError, DatasetError
from procosm.world_model.files import read_tensors
from procosm.world_model.registry import untrained
from procosm.world_model.training.presets import preset
from procosm.world_model.training.recipes import Training
from procosm.world_model.training.train import TrainConfig, train


@pytest.fixture(scope="module")
def data(pendulum_log, tmp_path_factory) -> Path:
    """Data of which it is told, and only told, that a saved policy acted in them."""
    made = shutil.copytree(pendulum_log, tmp_path_factory.mktemp("run") / "data")
    told = json.loads((made / "provenance.json").read_text())
    told["job"]["policies"] = {"runs/a.zip": "f00"}
    (made / "provenance.json").write_text(json.dumps(told))
    return made


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory) -> Path:
    return train(TrainConfig(data=data, out=tmp_path_factory.mktemp("whole") / "world_model", preset="debug"))


def test_the_checkpoint_dreams(trained):
    model = load(trained)
    assert model.task.id == "InvertedPendulum-v5"
    _, prediction = model.dynamics.step(model.dynamics.begin(model.starts[:5]), torch.zeros(5, 1))
    assert prediction.readouts["state"].shape == (5, 4)
    assert torch.isfinite(prediction.latents).all()
    again = model.tokenizer.encode(model.start_frames[:5].flatten(0, 1)[:, None])[:, 0].unflatten(0, (5, -1))
    assert torch.allclose(again, model.starts[:5], atol=1e-5)
    stages = {"tokenizer", "state_head", "manifold", "diffusion", "unroll-0"}
    assert set(model.metrics) >= stages | {"growth", "open_loop", "before_unrolling"}
    assert (
        model.provenance["versions"]["torch"] == torch.__version__.split("+")[0]
        or model.provenance["versions"]["torch"]
    )


def test_the_first_frames_of_the_tasks_own_reset_are_kept(data, trained):
    model, own = load(trained), [episode for episode in load_episodes(data) if not episode.wide]
    order = ("holdout", "constant", "train")
    firsts = [e.frames[0] for kind in order for e in own if e.kind == kind]
    assert len(model.resets) == len(firsts) > 0
    seen = model.tokenizer.encode(torch.stack([torch.from_numpy(frame) for frame in firsts])[:, None])[:, 0]
    assert torch.allclose(model.resets, seen, atol=1e-5)


def test_who_acted_in_the_data_is_kept_with_the_weights(data, trained, tmp_path):
    assert load(trained).provenance["policies"] == acting_policies(data) == {"runs/a.zip": "f00"}
    copy = shutil.copytree(data, tmp_path / "data")
    (copy / "provenance.json").unlink()
    assert acting_policies(copy) == {}


def test_the_state_head_learns_to_read_finished_latents_and_nothing_else_changes(data, tmp_path):
    table = tabulate(load_episodes(data), "train", 3)
    torch.manual_seed(0)
    _, dynamics = untrained(load_task(data), preset("debug").tokenizer, preset("debug").dynamics)
    dynamics.state_head.fit(table.signals["state"])
    # Latents from which positions are read linearly, and speeds from two of them.
    mix = torch.randn(table.signals["state"].shape[1], *dynamics.latent_shape)
    latents = torch.einsum("ns,schw->nchw", dynamics.state_head.standardise(table.signals["state"]), mix)
    training = Training(None, dynamics, {"train": table}, 0, tmp_path, encoded={"train": latents})
    before = {k: v.clone() for k, v in dynamics.state_dict().items()}

    def error() -> float:
        at = table.steps + 1
        with torch.no_grad():
            read = dynamics.state_head(latents[context_index(table, at, 3)])
        return float((read - dynamics.state_head.standardise(table.signals["state"][at])).square().mean().sqrt())

    blank = error()
    Read(200, 64, 1e-3).run("state_head", training)
    assert error() < 0.2 * blank
    changed = {k for k, v in dynamics.state_dict().items() if not torch.equal(v, before[k])}
    assert changed and all(k.startswith("state_head.net.") for k in changed)


COMMAND = (
    "from pathlib import Path; from procosm.world_model.training.train import *; "
    "import torch; torch.set_num_threads(1); "
)


def start_training(data: Path, out: Path) -> subprocess.Popen:
    code = COMMAND + f"train(TrainConfig(data=Path({str(data)!r}), out=Path({str(out)!r}), preset='debug'))"
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen([sys.executable, "-c", code], env=env, stderr=subprocess.DEVNULL)


def test_killed_in_every_stage_it_ends_as_if_nothing_had_happened(data, tmp_path):
    whole, part = tmp_path / "whole", tmp_path / "part"
    assert start_training(data, whole).wait() == 0
    work = part.with_name("part.training")
    for stage in ("tokenizer", "state_head", "diffusion", "unroll-0"):
        process = start_training(data, part)
        while not (work / f"{stage}.safetensors").exists() and process.poll() is None:
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert start_training(data, part).wait() == 0
    for name in ("tokenizer", "dynamics", "starts"):
        ours, theirs = (read_tensors(folder / f"{name}.safetensors") for folder in (part, whole))
        assert ours.keys() == theirs.keys()
        for key in ours:
            assert torch.equal(ours[key], theirs[key]), f"{name}: {key}"


def test_missing_and_damaged_inputs_are_named(tmp_path, trained):
    with pytest.raises(DatasetError, match="procosm collect"):
        train(TrainConfig(data=tmp_path / "none", out=tmp_path / "out", preset="debug"))
    with pytest.raises(CheckpointError, match="procosm run"):
        load(tmp_path / "none")
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in trained.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    whole = (copy / "dynamics.safetensors").read_bytes()
    (copy / "dynamics.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="damaged"):
        load(copy)
    (copy / "dynamics.safetensors").write_bytes(whole)
    config = (copy / "config.json").read_text()
    (copy / "config.json").write_text(config.replace('"context": 3', '"contexts": 3'))
    with pytest.raises(CheckpointError, match="contexts"):
        load(copy)
