"""The shape of results, and the README made from them."""

import json

import pytest

from procosm.benchmarks import readme
from procosm.benchmarks.record import RESULTS, in_files, publish, record

FILES = sorted(RESULTS.glob("*.json"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_result_says_what_where_and_when(path):
    result = json.loads(path.read_text())
    assert result.keys() >= {"benchmark", "command", "commit", "date", "hardware", "versions", "rows"}
    assert path.stem.startswith(result["benchmark"])
    for row in result["rows"]:
        assert row.keys() >= {"metric", "task", "value", "unit"}


def test_a_row_without_its_unit_is_refused(tmp_path):
    with pytest.raises(ValueError, match="unit"):
        record("x", [{"metric": "m", "task": "t", "value": 1}], tmp_path)


def pipeline_rows() -> list[dict]:
    rows = []
    for seed, value in enumerate((990.0, 1000.0, 12.5)):
        row = {"task": "InvertedPendulum", "seed": seed, "unit": "1"}
        rows += [
            row
            | {"metric": "return of trained in mujoco", "value": value, "low": value - 1, "high": value + 1, "n": 100},
            row | {"metric": "return of zero in mujoco", "value": 20.0 + seed},
            row | {"metric": "real steps collected", "value": 10000},
            row | {"metric": "seconds in all", "value": 600},
        ]
    return rows


def test_the_table_has_a_line_for_every_model_and_says_what_was_not_measured(tmp_path, monkeypatch):
    record("pipeline_invertedpendulum", pipeline_rows(), tmp_path)
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    table = readme.returns_table()
    mine = [line for line in table if line.startswith("| InvertedPendulum")]
    assert [line.split(" | ")[1] for line in mine] == ["0", "1", "2"]
    assert "| small | 10,000 | **12.5** [11.5, 13.5], 100 | 22.0 | 10 |" in mine[2]
    assert any(line.startswith("| Reacher") and "not measured" in line for line in table)


@pytest.mark.parametrize(
    ("horizons", "longest"),
    [
        (["first 32 steps", "first 100 steps"], "first 100 steps"),
        (["whole episode", "first 32 steps"], "whole episode"),
    ],
)
def test_the_longest_part_ranked_is_shown(horizons, longest, tmp_path, monkeypatch):
    place = {"task": "HalfCheetah-v5", "unit": "1", "low": 0.0, "high": 1.0}
    rows = [
        {"metric": metric, "horizon": horizon, "panel": panel, "n": n, **place, "value": value}
        for horizon in horizons
        for panel, n, value in (("all", 40, 0.5), ("never in the data", 21, 0.4))
        for metric in ("Pearson r", "MMRV", "regret@1")
    ]
    record("ranking_halfcheetah", rows, tmp_path)
    monkeypatch.setattr(readme, "RESULTS", tmp_path)
    line = readme.rankings_table()[-1]
    assert line.startswith("| HalfCheetah, ") and f"| {longest} | 40 (21) | 0.500 [0.000, 1.000] |" in line


@pytest.mark.parametrize("name", readme.TABLES)
def test_the_committed_pages_are_what_make_results_writes(name):
    page, table = readme.TABLES[name]
    text = page.read_text(encoding="utf-8")
    assert readme.filled(text, name, table()) == text


def test_a_page_without_a_place_for_its_table_is_refused():
    with pytest.raises(SystemExit, match="returns"):
        readme.filled("# A page", "returns", [])


def test_names_of_results_leave_the_version_out_and_nothing_else():
    assert in_files("HalfCheetah-v5") == "halfcheetah"
    assert in_files("dm_control/dog-velocity") == "dm_control_dog-velocity"


def test_a_published_result_is_named_by_its_task_and_takes_its_figure_along(tmp_path, monkeypatch):
    monkeypatch.setattr("procosm.benchmarks.record.RESULTS", tmp_path / "results")
    (tmp_path / "results" / "figures").mkdir(parents=True)
    row = {"metric": "m", "task": "dm_control/reacher-easy", "value": 1, "unit": "1"}
    result = record("fidelity", [row], tmp_path)
    result.with_suffix(".png").write_bytes(b"picture")
    assert publish(result) == "dm_control_reacher-easy"
    copied = tmp_path / "results" / "fidelity_dm_control_reacher-easy.json"
    assert json.loads(copied.read_text())["rows"] == [row]
    assert (tmp_path / "results" / "figures" / copied.with_suffix(".png").name).read_bytes() == b"picture"
