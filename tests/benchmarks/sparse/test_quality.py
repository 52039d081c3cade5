"""The benchmark of quality by density: its order, its arithmetic, the cells that are missing, a quick run."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from skimage.metrics import peak_signal_noise_ratio

from procosm.agents.judge.stats import t_interval
from procosm.agents.road import collect_stage
from procosm.benchmarks.sparse import quality as sparse_quality
from procosm.benchmarks.sparse.cells import (
    LENGTHS,
    ROADS,
    Cell,
    Protocol,
    begin_from,
    chooser,
    psnr,
    settle,
    worth,
)
from procosm.benchmarks.sparse.quality import SparseQualityConfig, plan, rows_of, write
from procosm.envs.collect.collect import CollectConfig
from procosm.world_model.files import read_tensors
from procosm.world_model.training.presets import preset
from procosm.world_model.training.train import TrainConfig, train


def test_the_plan_holds_every_cell_and_begins_with_the_question() -> None:
    cells = list(dict.fromkeys(plan(SparseQualityConfig())))
    dynamics = {(c.task, c.method, c.density, c.seed) for c in cells if c.part == "dynamics"}
    curve = {(m, d) for m in ("procrustes", "rigl", "set", "static") for d in (0.05, 0.1, 0.25, 0.5)}
    tasks = ("InvertedPendulum", "HalfCheetah")
    assert dynamics == {(t, m, d, s) for t in tasks for m, d in curve | {("dense", 1.0)} for s in range(3)}
    whole = {(c.task, c.part, c.method, c.density) for c in cells if c.part != "dynamics"}
    assert whole >= {
        (t, p, *at) for t in tasks for p in ("road", "tokenizer") for at in (("dense", 1.0), ("procrustes", 0.1))
    }
    assert [(c.method, c.density, c.seed) for c in cells[:6]] == [
        *(("dense", 1.0, s) for s in range(3)), *(("procrustes", 0.1, s) for s in range(3))
    ]  # fmt: skip


def test_a_task_without_settings_for_whole_runs_has_all_other_cells() -> None:
    assert {cell.part for cell in plan(SparseQualityConfig(tasks=("Hopper",)))} == {"dynamics", "tokenizer"}


def test_differences_from_dense_are_paired_by_seed() -> None:
    def cell(method: str, density: float, seed: int) -> Cell:
        return Cell("A", "dynamics", method, density, seed)

    found = {cell("dense", 1.0, s): {"psnr_1_db": v} for s, v in enumerate((20.0, 30.0, 40.0))}
    found |= {cell("set", 0.1, s): {"psnr_1_db": v} for s, v in ((1, 29.0), (2, 37.0), (3, 5.0))}
    rows = {(r["metric"], r["method"]): r for r in rows_of(found) if "seed" not in r}
    difference = rows["psnr_1_db minus dense", "set"]
    # -1 and -3: mean -2, standard error 1, t(.975, 1) = 12.706
    assert difference["n"] == 2 and difference["value"] == -2
    assert difference["low"] == pytest.approx(-14.706, abs=1e-3) and difference["high"] == pytest.approx(
        10.706, abs=1e-3
    )
    assert rows["psnr_1_db mean", "dense"]["value"] == 30
    assert ("psnr_1_db minus dense", "dense") not in rows
    assert t_interval([1.0]) == {"value": 1.0, "n": 1}


def test_psnr_is_that_of_scikit_image() -> None:
    generator = np.random.default_rng(0)
    a, b = (generator.integers(0, 256, (3, 8, 8, 3), dtype=np.uint8) for _ in range(2))
    expected = np.mean([peak_signal_noise_ratio(x, y, data_range=255) for x, y in zip(a, b, strict=True)])
    assert psnr(torch.from_numpy(a), torch.from_numpy(b)) == pytest.approx(expected, abs=1e-4)
    assert np.isfinite(psnr(torch.from_numpy(a), torch.from_numpy(a)))


def test_a_whole_run_is_read_from_its_metrics() -> None:
    lines = [("psnr_db", "dream", 33.0), ("psnr_db", "copy last frame", 30.0), ("psnr_db", "tokenizer", 34.0)]
    lines += [("latent_mse", "dream", 0.01), ("latent_mse", "copy last frame", 0.1)]
    open_loop = [
        {"metric": metric, "method": method, "horizon": h, "value": value if metric == "psnr_db" else value / (1 + h)}
        for metric, method, value in lines
        for h in range(1, 9)
    ]
    returns = {"mujoco": {"trained": {"mean": 987.5}, "zero": {"mean": 25.0}}, "dream": {"trained": {"mean": 443.0}}}
    found = worth({"open_loop": open_loop, "returns": returns})
    decibels = {f"{name}_{h}_db": v for h in (1, 8) for name, v in (("psnr", 33), ("better_than_copy", 10))}
    assert found == pytest.approx({"return": 987.5, **decibels})


def test_begun_from_a_dense_run_others_end_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trained(folder: Path, density: float) -> bytes:
        train(TrainConfig(folder / "data", folder / "world_model", "debug", density=density))
        return (folder / "world_model" / "dynamics.safetensors").read_bytes()

    home = tmp_path / "InvertedPendulum"
    dense, begun, scratch = (home / "roads" / name for name in ("1-0", "0.5-0", "scratch"))
    for folder in (dense, scratch):
        collect_stage(CollectConfig("InvertedPendulum", folder, steps=400, processes=1))
    trained(dense, 1.0)
    begin_from(dense, begun)
    tokenizer = begun / "world_model.training" / "tokenizer.safetensors"
    before = tokenizer.stat().st_mtime_ns
    assert trained(begun, 0.5) == trained(scratch, 0.5)
    assert tokenizer.stat().st_mtime_ns == before

    monkeypatch.setitem(LENGTHS, "500_steps", preset("debug").stages["diffusion"].steps)
    monkeypatch.setitem(ROADS, "InvertedPendulum", replace(ROADS["InvertedPendulum"], preset="debug"))
    cell = Cell("InvertedPendulum", "500_steps", "dense", 1.0, 0)
    assert all(np.isfinite(value) for value in settle(cell, tmp_path, Protocol(windows=4)).values())
    paths = dense / "world_model.training", home / "cells" / f"{cell.name}.training"
    stage, again = (read_tensors(path / "diffusion.safetensors") for path in paths)
    learned = [name for name in stage if ".manifold." not in name]  # the one-step stage does without it
    assert learned and all(torch.equal(stage[name], again[name]) for name in learned)


def test_cells_that_are_missing_are_named(tmp_path: Path) -> None:
    config = SparseQualityConfig(tmp_path / "cells", tmp_path / "q.json", tasks=("InvertedPendulum",), seeds=1)
    cells = list(plan(config))[:3]
    there = tmp_path / "cells" / "InvertedPendulum" / "cells" / f"{cells[0].name}.json"
    there.parent.mkdir(parents=True)
    there.write_text(json.dumps({"psnr_1_db": 20.0, "psnr_8_db": 18.0}))
    result = json.loads(write(config, cells, Protocol()).read_text())
    assert result["details"]["missing"] == [f"InvertedPendulum {cell.name}" for cell in cells[1:]]
    assert {row["value"] for row in result["rows"]} == {20.0, 18.0}
    assert (tmp_path / "q.png").stat().st_size > 5000


def test_dense_cells_have_no_sparsifier_and_the_others_the_one_of_training() -> None:
    assert chooser(Cell("A", "dynamics", "dense", 1.0, 0), "dynamics") == {}
    assert set(chooser(Cell("A", "dynamics", "rigl", 0.1, 0), "dynamics")) == {"dynamics"}


@pytest.mark.slow
def test_a_quick_run_goes_through_every_part_and_is_not_done_twice(tmp_path: Path, monkeypatch) -> None:
    config = SparseQualityConfig(tmp_path / "cells", tmp_path / "q.json", tasks=("InvertedPendulum",), quick=True)
    first = json.loads(sparse_quality.main(config).read_text())
    assert first["details"]["missing"] == []
    assert {row["metric"] for row in first["rows"]} > {"psnr_1_db mean", "psnr_8_db minus dense", "psnr_db minus dense"}
    monkeypatch.setattr("procosm.benchmarks.sparse.cells.desk", lambda *args: pytest.fail("a cell was done twice"))
    assert json.loads(sparse_quality.main(config).read_text())["rows"] == first["rows"]
