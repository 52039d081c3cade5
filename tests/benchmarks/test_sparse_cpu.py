"""The benchmark of sparse products: its ratios by hand, one miniature run."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from procosm import sparse
from procosm.benchmarks import sparse_cpu


def test_ratios_compare_within_a_round(monkeypatch: pytest.MonkeyPatch) -> None:
    # Two rounds of dense, sparse for a and then for b; each call first runs once untimed.
    clock = iter([6.0, 2.0, 1.0, 2.0, 8.0, 2.0, 3.0, 1.0])
    monkeypatch.setattr(sparse_cpu, "seconds", lambda call: next(clock))
    nothing = (lambda: None, lambda: None)
    found = sparse_cpu.ratios({"a": nothing, "b": nothing}, rounds=2)
    assert found == {"a": [3.0, 4.0], "b": [0.5, 3.0], "all": [7 / 4, 11 / 3]}


def test_crossover_is_interpolated_where_the_speedup_is_one() -> None:
    config = sparse_cpu.SparseCpuConfig(blocks=(64,), crossover_width=512)
    shared = {"metric": "speedup of all", "block": 64, "d": 512}
    speedups = {0.25: 4.0, 0.5: 2.0, 1.0: 0.5}
    rows = [
        {"dtype": dtype, "density": density, "value": value, **shared}
        for dtype in sparse_cpu.DTYPES
        for density, value in speedups.items()
    ]
    found = {(row["metric"], row["task"]): row["value"] for row in sparse_cpu.crossover_rows(config, rows)}
    # log 2 at 0.5 and -log 2 at 1.0: zero lies half way.
    assert found["crossover measured", "float32 d=512 b=64"] == 0.75
    assert 0 < found["crossover predicted", "bfloat16 d=512 b=64"] < 1


def test_a_miniature_run_writes_complete_rows(tmp_path: Path) -> None:
    sizes = {"widths": (128,), "blocks": (64,), "densities": (0.5,), "density": 0.5, "crossover_width": 128}
    threads = torch.get_num_threads()
    config = sparse_cpu.SparseCpuConfig(tmp_path / "mini.json", tokens=32, rounds=1, threads=threads, **sizes)
    path = sparse_cpu.benchmark(config)
    result = json.loads(path.read_text())
    metrics = {row["metric"] for row in result["rows"]}
    assert {f"speedup of {op}" for op in ("forward", "data_gradient", "weight_gradient", "all")} < metrics
    assert {"crossover measured", "crossover predicted", "memory of weights, gradients and Adam"} < metrics
    assert all(row["value"] > 0 for row in result["rows"] if not row["metric"].startswith("crossover"))


class Net(torch.nn.Module):
    def __init__(self, density: float) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Linear(64, 64))
        if density < 1:
            sparse.convert(self.body, density, block=16)

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, dict]:
        return self.body(batch).square().mean(), {}


def factory(density: float) -> tuple[torch.nn.Module, torch.Tensor]:
    return Net(density), torch.ones(8, 64)


def test_the_step_of_a_model_is_timed_in_both_dtypes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mine", SimpleNamespace(make=factory))
    config = sparse_cpu.SparseCpuConfig(
        tmp_path / "model.json", model="mine:make", density=0.25, rounds=1, threads=torch.get_num_threads()
    )
    rows = json.loads(sparse_cpu.benchmark(config).read_text())["rows"]
    assert [row["metric"] for row in rows].count("speedup of a training step") == 2
    assert all(row["value"] > 2 for row in rows if row["metric"].startswith("memory"))
