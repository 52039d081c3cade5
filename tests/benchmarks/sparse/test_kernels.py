"""The benchmark of the kernels: its CPU path, its ratios by hand, its second run."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from procosm.benchmarks.sparse import kernels
from procosm.benchmarks.sparse.kernel_rivals import RIVALS
from procosm.sparse import cost


@pytest.fixture
def config(tmp_path: Path) -> kernels.KernelsConfig:
    small = {"widths": (128,), "tokens": (64,), "densities": (0.5,), "blocks": (64,), "rounds": 2}
    return replace(kernels.KernelsConfig(tmp_path / "kernels.json", quick=True), **small)


@pytest.fixture
def no_gpu(config: kernels.KernelsConfig, monkeypatch: pytest.MonkeyPatch) -> kernels.KernelsConfig:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(kernels, "quick", lambda given: given)
    return config


def test_without_a_device_the_cpu_path_is_timed_and_named(no_gpu: kernels.KernelsConfig) -> None:
    result = json.loads(kernels.benchmark(no_gpu).read_text())
    times = [row for row in result["rows"] if row["metric"].startswith("seconds")]
    assert len(times) == 6 and {row["path"] for row in times} == {"cpu"} and all(row["value"] > 0 for row in times)
    mine = [row for row in times if row["implementation"] == "procosm"]
    assert all(row["error_against_float64"] < 0.01 for row in mine)
    absent = [row for row in result["rows"] if row.get("status")]
    assert len(absent) == 6 and all(row["value"] is None and "no CUDA device" in row["status"] for row in absent)
    assert result["details"]["machine"]["device"] == "CPU path"


def test_a_second_run_keeps_what_the_first_measured(
    no_gpu: kernels.KernelsConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "commit", lambda: "c0ffee")
    first = json.loads(kernels.benchmark(no_gpu).read_text())
    no_gpu.out.write_text(json.dumps(first | {"commit": "c0ffee"}))
    monkeypatch.setattr(kernels, "timed", lambda *_: pytest.fail("measured again"))
    again = json.loads(kernels.benchmark(no_gpu).read_text())
    assert again["rows"] == first["rows"]
    monkeypatch.setattr(kernels, "commit", lambda: "0ther")  # other code must be measured anew
    assert kernels.known(no_gpu.out, kernels.machine("cpu")) == []


def test_past_the_limit_cells_are_left_and_counted(no_gpu: kernels.KernelsConfig) -> None:
    path = kernels.benchmark(replace(no_gpu, limit_s=1e-9))
    assert json.loads(path.read_text())["details"]["cells_left"] == 1


def test_without_a_device_or_quick_it_refuses(no_gpu: kernels.KernelsConfig) -> None:
    with pytest.raises(SystemExit, match="--quick"):
        kernels.benchmark(replace(no_gpu, quick=False))


def test_speedups_divide_times_of_the_same_product() -> None:
    shared = {
        "operation": "forward",
        "d": 8,
        "tokens": 4,
        "path": "cpu",
        "n": 1,
        "task": "t",
        "block": 2,
        "density": 0.5,
    }
    rows = [
        {**shared, "implementation": "dense", "value": 6.0},
        {**shared, "implementation": "procosm", "value": 2.0},
        {**shared, "implementation": "procosm", "value": 1.0, "tokens": 8},  # no dense time at 8 tokens
    ]
    assert [row["value"] for row in kernels.speedups(rows)] == [3.0]


def test_a_share_of_the_roof_is_the_larger_of_two_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernels, "device_name", lambda device: "NVIDIA H200")
    cell = kernels.cell_of(128, 64, 64, 0.5, "cpu")
    row = kernels.time_row("procosm", "forward", cell, [3e-6], "cuda")
    work = cost.work("forward", 64, (128, 128), 2 * 64 * 64, 2)
    assert row["share_of_roof"] == pytest.approx(max(work.flops / 989e12, work.bytes / 4.8e12) / 3e-6)


ON_A_CPU = "torch BSR float32, cuSPARSE"  # torch has a CPU kernel of the same name


@pytest.mark.filterwarnings("ignore:Sparse BSR")  # "in beta", once a process
def test_a_rival_that_runs_gives_the_same_product() -> None:
    (row,) = kernels.rival_rows(kernels.cell_of(128, 64, 64, 0.5, "cpu"), [ON_A_CPU], "cpu", 1)
    assert row["value"] > 0 and row["error_against_float64"] < 1e-5


@pytest.mark.parametrize("name", sorted(RIVALS.keys() - {ON_A_CPU}))
def test_a_rival_that_is_missing_says_so(name: str) -> None:
    cell = kernels.cell_of(128, 64, 64, 0.5, "cpu")
    (row,) = kernels.rival_rows(cell, [name], "cpu", 1)
    assert row["value"] is None and row["status"].startswith("not measured: ")
