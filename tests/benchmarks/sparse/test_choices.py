"""The benchmark of what auto chooses: a miniature run that is gone on with, and its count of wrong choices."""

from pathlib import Path

import pytest

from procosm.benchmarks.sparse import choices
from procosm.benchmarks.sparse.choices import SparseChoicesConfig, summary
from procosm.sparse import machines
from procosm.world_model.files import read_json


def test_a_miniature_run_has_every_cell_and_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"widths": (64,), "tokens": (32, 64), "densities": (0.25, 0.5), "blocks": (16, 32, 128), "rounds": 2}
    config = SparseChoicesConfig(tmp_path / "sparse_choices.json", dtypes=("float32",), **sizes)
    rows = read_json(choices.benchmark(config))["rows"]
    cells = [row for row in rows if "block" in row]
    assert {(row["tokens"], row["density"], row["block"]) for row in cells} == {
        (tokens, density, block) for tokens in (32, 64) for density in (0.25, 0.5) for block in (16, 32)
    }
    for row in cells:
        assert 0 < row["low"] <= row["high"] and row["value"] == pytest.approx(
            row["dense_seconds"] / row["seconds"], rel=1e-2
        )
        assert row["kept"] == max(1, round(row["density"] * (64 // row["block"]) ** 2))
    monkeypatch.setattr(choices, "group_rows", lambda *_: pytest.fail("timed again"))
    always = {size: machines.Machine(1e9, 1e9, 0, 0, dict.fromkeys((16, 32), 9.0), True, "") for size in (2, 4)}
    monkeypatch.setattr(machines, "TIMED", {("cpu", size): table for size, table in always.items()})
    again = [row for row in read_json(choices.benchmark(config))["rows"] if "block" in row]
    assert {row["chosen"] for row in again} == {"sparse"}, "what auto chooses is asked anew"
    assert [row["seconds"] for row in again] == [row["seconds"] for row in cells]


def test_wrong_choices_are_counted() -> None:
    found = [("sparse", 1.5), ("sparse", 0.9), ("dense", 1.2), ("dense", 0.4)]
    told = {row["metric"]: row["value"] for row in summary([{"chosen": c, "value": v} for c, v in found])}
    assert told["chosen sparse and slower"] == 1 and told["least gain where sparse was chosen"] == 0.9
    assert told["left dense though sparse was faster"] == 1 and told["chosen sparse"] == 2
