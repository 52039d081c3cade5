"""The benchmark of sparse dreams: one miniature run, and what its published result claims."""

import json
from pathlib import Path

import pytest

from procosm.benchmarks.record import RESULTS
from procosm.benchmarks.sparse import dreams
from procosm.benchmarks.sparse.dreams import SparseDreamsConfig
from procosm.sparse import machines


def test_a_miniature_has_a_row_for_each_density_and_cell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dreams, "THIN", ((0.5, 16),))
    monkeypatch.setattr(
        machines, "processor", lambda: machines.Processor("AuthenticAMD", True, "avx512_bf16")
    )  # whose choices these are
    config = SparseDreamsConfig(tmp_path / "sparse_dreams.json", preset="debug", dreams=(2,), rounds=1)
    rows = json.loads(dreams.benchmark(config).read_text())["rows"]
    assert [(row["density"], row.get("block")) for row in rows[:2]] == [(1.0, None), (0.5, 16)]
    assert rows[0]["value"] == 1.0 and all(row["low"] <= row["value"] <= row["high"] for row in rows[:2])
    assert {(row["density"], row["chosen"]) for row in rows[2:]} == {(0.25, "sparse"), (0.5, "dense")}


def test_the_published_sparse_dreams_are_faster() -> None:
    rows = json.loads((RESULTS / "sparse_dreams.json").read_text())["rows"]
    steps = [row for row in rows if "dreams" in row and row["density"] < 1]
    assert steps and all(row["value"] > 1 for row in steps if row["density"] <= 0.25)
