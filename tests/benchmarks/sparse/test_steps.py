"""The benchmark of training steps: one miniature run, and what its published result claims."""

import json
from pathlib import Path

import pytest

from procosm.benchmarks import readme
from procosm.benchmarks.record import RESULTS
from procosm.benchmarks.sparse import steps as sparse_steps
from procosm.benchmarks.sparse.steps import SparseStepsConfig


def test_a_miniature_run_has_a_row_for_each_density(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = SparseStepsConfig(tmp_path / "sparse_steps.json", presets=("debug",), densities=(0.5,), rounds=2)
    dense, thin = json.loads(sparse_steps.benchmark(config).read_text())["rows"]
    assert (dense["density"], dense["value"], dense["block"]) == (1.0, 1.0, None)
    assert (thin["density"], thin["block"]) == (0.5, 16)
    assert 0 < thin["low"] <= thin["high"] and thin["value"] > 0
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    assert readme.sparse_steps_table()[-1] == f"| debug | 32 | 1.00 | {thin['value']:.2f} (b 16) |"


def test_the_published_result_has_every_preset_and_wide_pays() -> None:
    rows = json.loads((RESULTS / "sparse_steps.json").read_text())["rows"]
    found = {(row["preset"], row["density"]): row["value"] for row in rows}
    named = SparseStepsConfig().presets
    assert found.keys() == {(name, density) for name in named for density in (1.0, 0.5, 0.25, 0.1)}
    assert found["wide", 0.1] >= 2.5
