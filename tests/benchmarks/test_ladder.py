"""The ladder: each rung from made-up results, of the very world model, and honest where there is none."""

import json
from pathlib import Path

import pytest

from procosm.benchmarks.ladder import NOT_MEASURED, RUNGS, ladder_table, models
from procosm.benchmarks.record import RESULTS

WHOLE = {"horizon": "whole episode", "unit": "1", "task": "Toy-v5", "n": 60}


def write(folder: Path, name: str, rows: list[dict], **details) -> None:
    (folder / f"{name}.json").write_text(json.dumps({"rows": rows, "details": details}))


def ranked(folder: Path, low: float = 0.9, gap: float = 0.01, name: str = "ranking_toy") -> None:
    r = {**WHOLE, "metric": "Pearson r", "panel": "without the dream-trained", "value": 0.95, "low": low, "high": 0.97}
    rows = [
        r,
        {**WHOLE, "metric": "Pearson r", "panel": "control: action cost", "value": 0.7},
        {**WHOLE, "metric": "Pearson r", "panel": "band 1 of 3", "value": 0.99},
        {**WHOLE, "metric": "MMRV", "panel": "all", "value": 0.03},
        {**WHOLE, "metric": "regret@1", "panel": "all", "value": 0.0},
        {**r, "horizon": "first 32 steps", "value": 0.1},
        {**WHOLE, "metric": "exploitability gap", "value": gap, "family": "exploit"},
        {**WHOLE, "metric": "exploitability gap", "value": 0.0, "family": "dream"},
        {**WHOLE, "metric": "exploitability gap", "value": 0.9, "family": "dream", "horizon": "first 32 steps"},
    ]
    write(folder, name, rows, world_model={"commit": "abc+", "command": "run --seed 2"})


def cells(folder: Path) -> dict[str, str]:
    (model,) = models(folder)
    return {name.split(":")[0]: rung(model) for name, rung in RUNGS.items()}


def test_what_was_not_measured_says_so(tmp_path):
    ranked(tmp_path)
    found = cells(tmp_path)
    assert [name for name, cell in found.items() if cell == NOT_MEASURED] == [
        "visual", "actions", "reward", "optimisation lift", "calibration",
    ]  # fmt: skip
    assert found["ranking"] == (
        "r 0.950 [0.900, 0.970], of the best control 0.700, MMRV 0.030, regret@1 0.000; whole episode"
    )
    assert found["exploitability"] == "+0.010 of the range; 2 policies, 1 searched for"


def test_a_rung_fails_where_what_must_lose_does_not(tmp_path):
    ranked(tmp_path, low=0.65, gap=0.08)
    trust = {
        "metric": "Brier skill over a clock",
        "behaviour": "all behaviours",
        "value": 0.1,
        "low": -0.1,
        "high": 0.3,
    }
    write(tmp_path, "trust_toy", [trust], world_model={"commit": "abc"})
    probe = {"metric": "error of a step's reward", "value": 0.2, "passed": False}
    write(tmp_path, "probes_toy", [probe, {**probe, "value": 0.01, "passed": True}], world_model={"commit": "abc"})
    minus = {"metric": "return minus dream", "arm": "offline_sac", "value": -1.0, "low": -2.5, "high": 0.5}
    write(tmp_path, "transfer_toy", [minus], world_model_commits={"seed2": "abc"})
    pixels = {"run_commit": "abc", "seed": 2, "value": 10, "n": 32}
    write(tmp_path, "pipeline_toy", [
        {**pixels, "metric": f"horizons at which pixel_mse of the dream beats {rival}"}
        for rival in ("copy last frame", "shuffled actions")
    ])  # fmt: skip
    found = cells(tmp_path)
    assert all(cell.startswith("**fails**: ") for cell in found.values()), found
    assert "0.200" in found["reward"] and "+1.0 [-0.5, 2.5] over offline_sac" in found["optimisation lift"]


@pytest.mark.parametrize("other", ["commit", "seed"])
def test_results_of_another_world_model_do_not_count(tmp_path, other):
    ranked(tmp_path)
    write(tmp_path, "probes_toy", [{"metric": "error of a step's reward", "value": 0.0, "passed": True}],
          world_model={"commit": "abc" if other == "seed" else "fff"})  # fmt: skip
    row = {"run_commit": "abc", "seed": 1 if other == "seed" else 2, "value": 32, "n": 32}
    row["run_commit"] = "abc" if other == "seed" else "fff"
    write(
        tmp_path, "pipeline_toy", [{**row, "metric": "horizons at which pixel_mse of the dream beats copy last frame"}]
    )
    found = cells(tmp_path)
    assert found["visual"] == NOT_MEASURED
    assert (found["reward"] == NOT_MEASURED) == (other == "commit")


def test_the_committed_results_make_a_table():
    lines = ladder_table(RESULTS)
    assert len(lines) == 2 + len(RUNGS) and len({line.count("|") for line in lines}) == 1
    assert "Reacher-v5" in lines[0]
