"""Opening and saving a checkpoint take the memory of its files, and no more: measured in a process of its own."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from procosm.world_model.checkpoint import WorldModel, load, save
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.registry import untrained
from procosm.world_model.sparsity import sparsify
from procosm.world_model.training.presets import preset

OPEN = """
import json, sys
from pathlib import Path
import torch
from procosm.benchmarks.memory import forget_peak, peak_bytes
from procosm.world_model.checkpoint import load, save

load(sys.argv[3])  # a small one: what has to be imported is imported
forget_peak()
before = peak_bytes()
model = load(sys.argv[1])
opened = peak_bytes()
save(Path(sys.argv[2]), model)
print(json.dumps({"opened": (opened - before) / 2**20, "saved": (peak_bytes() - before) / 2**20}))
"""


def large(small: WorldModel, density: float) -> WorldModel:
    """An untrained model of the same task, some 300 MB of weights or, block-sparse, of live blocks."""
    torch.manual_seed(0)
    network = TransformerConfig(width=1280 if density == 1 else 1792, layers=3, heads=8)
    config = DynamicsConfig(transformer=network)
    _, dynamics = untrained(small.task, preset("debug").tokenizer, config)
    if density < 1:
        sparsify(dynamics, density, 128, dynamics.stay_dense)
    return dataclasses.replace(small, dynamics=dynamics.requires_grad_(False).eval())


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the memory of a process is read from /proc")
@pytest.mark.parametrize("density", [0.4, pytest.param(1.0, marks=pytest.mark.slow)])
def test_opening_and_saving_take_the_size_of_the_files(tiny_checkpoint, tmp_path, density):
    folder = save(tmp_path / "large", large(load(tiny_checkpoint), density))
    size = sum(path.stat().st_size for path in folder.iterdir()) / 2**20
    assert size > 250
    command = [sys.executable, "-c", OPEN, str(folder), str(tmp_path / "again"), str(tiny_checkpoint)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    grown = json.loads(run.stdout)
    assert 0.5 * size < grown["opened"] < 1.3 * size, (grown, size)
    assert grown["saved"] < 1.3 * size, (grown, size)
    for name in ("tokenizer", "dynamics"):
        file = f"{name}.safetensors"
        assert (tmp_path / "again" / file).read_bytes() == (folder / file).read_bytes()


def test_what_is_written_to_an_opened_model_stays_out_of_its_file(tiny_checkpoint):
    before = (tiny_checkpoint / "dynamics.safetensors").read_bytes()
    model = load(tiny_checkpoint)
    with torch.no_grad():
        for parameter in model.dynamics.parameters():
            parameter.add_(1.0)
    assert (tiny_checkpoint / "dynamics.safetensors").read_bytes() == before


def test_a_model_stays_whole_when_its_folder_is_written_anew(tiny_checkpoint, tmp_path):
    model = load(tiny_checkpoint)
    folder = save(tmp_path / "run", model)
    opened = load(folder)
    _, other = untrained(model.task, preset("debug").tokenizer, preset("debug").dynamics)
    save(folder, dataclasses.replace(model, dynamics=other.requires_grad_(False).eval()))
    assert all(
        torch.equal(a, b) for a, b in zip(opened.dynamics.parameters(), model.dynamics.parameters(), strict=True)
    )
