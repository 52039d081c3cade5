"""The benchmark of whole steps: its model against the layers' arithmetic, its CPU path."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from procosm import sparse
from procosm.benchmarks.sparse import training as sparse_training
from procosm.benchmarks.sparse.cosmos_shaped import CosmosShaped, example


def test_the_model_has_the_published_shape() -> None:
    with torch.device("meta"):
        model = CosmosShaped(2048, 16, 28)
    linear = 2048**2 * (3 + 1 + 1 + 2 + 1 + 8)  # self-attention, cross-attention, MLP
    modulation = 3 * (2048 * 256 + 256 * 3 * 2048)
    norms = 2 * 128
    assert sum(p.numel() for p in model.parameters()) == 28 * (linear + modulation + norms)


def test_sparse_and_dense_steps_learn_and_every_part_is_timed() -> None:
    torch.manual_seed(0)
    for density in (1.0, 0.5):
        step = sparse_training.Step(example(64, 2, 1, 24, 8, "cpu"), density, 16, False, "cpu")
        with torch.no_grad():
            before = step.model(step.batch)[0].item()
        for _ in range(5):
            times = step.parts()
        assert set(times) == set(sparse_training.PARTS) and min(times.values()) > 0
        assert step.model(step.batch)[0].item() < before
        layers = [layer for layer in step.model.modules() if isinstance(layer, sparse.nn.Linear)]
        assert len(layers) == (0 if density == 1 else 7)  # all but the modulation


def test_the_cpu_path_writes_every_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = replace(sparse_training.SparseTrainingConfig(tmp_path / "steps.json"), quick=True)
    result = json.loads(sparse_training.benchmark(config).read_text())
    tasks = {row["task"] for row in result["rows"] if row.get("path") == "cpu"}
    assert len(tasks) == 3 and result["details"]["machine"]["device"] == "CPU path"
    for task in tasks:
        metrics = {row["metric"] for row in result["rows"] if row["task"] == task}
        assert {"speedup of step", "seconds of backward, sparse", "memory of weights, gradients and Adam"} < metrics
    (absent,) = [row for row in result["rows"] if row["value"] is None]
    assert "no CUDA device" in absent["status"]


def test_without_a_device_or_quick_it_refuses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit, match="--quick"):
        sparse_training.benchmark(sparse_training.SparseTrainingConfig(tmp_path / "steps.json"))
