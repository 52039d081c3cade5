"""The benchmark of error over seconds: its arithmetic, and a miniature that is killed and goes on."""

from pathlib import Path

import pytest

from procosm.benchmarks.sparse import curve
from procosm.benchmarks.sparse.cells import Cell
from procosm.benchmarks.sparse.curve import JUDGED, SparseCurveConfig, given, longer_rows, reached, rows_of
from procosm.benchmarks.sparse.racing import Given, Racer
from procosm.world_model.files import read_json

TINY = {"preset": "debug", "density": 0.5, "seeds": 1, "steps": 6, "batch": 4, "marks": 3, "turn": 1, "windows": 4}


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SparseCurveConfig:
    out = tmp_path_factory.mktemp("curve")
    return SparseCurveConfig(
        out, out / "sparse_curve.json", task="InvertedPendulum", real_steps=300, tokenizer_steps=2, **TINY
    )


@pytest.fixture(scope="module")
def shared(config: SparseCurveConfig) -> Given:
    return given(config)


def points(*values: tuple[float, float]) -> list[dict[str, float]]:
    return [{"wall_s": s, "db": v} for s, v in values]


def test_a_level_is_reached_on_the_straight_line_between_marks() -> None:
    line = points((10.0, 1.0), (20.0, 3.0), (30.0, 2.0))
    assert reached(line, "db", 2.0, "wall_s") == pytest.approx(15.0)
    assert reached(line, "db", 1.0, "wall_s") == 10.0
    assert reached(line, "db", 3.5, "wall_s") is None


def test_rows_compare_the_arms_of_each_seed() -> None:
    def arm(scale: float, end: float) -> list[dict[str, float]]:
        return [
            {"step": step, "cpu_s": scale * step, "wall_s": 2 * scale * step, **dict.fromkeys(JUDGED, end * step)}
            for step in (1, 2)
        ]

    found = {seed: {"dense": arm(3.0, 1.0), "procrustes": arm(1.0, 0.9)} for seed in range(3)}
    rows = {row["metric"]: row for row in rows_of(found, SparseCurveConfig()) if "step" not in row}
    assert rows["speedup of equal steps, wall-clock seconds"]["value"] == pytest.approx(3.0)
    assert rows["psnr_8_db minus dense at equal steps"]["value"] == pytest.approx(-0.2)
    # Sparse ends at 1.8, after 2 s; dense is there after 1.8 steps of 3 s.
    assert rows["seconds to the same psnr_1_db, processor seconds"]["value"] == pytest.approx(2.7)
    assert rows["seconds to the same psnr_1_db, processor seconds"]["level_db"] == pytest.approx(1.8)


def test_more_steps_are_compared_with_the_end_of_dense() -> None:
    def arm(scale: float, end: float, steps: int) -> list[dict[str, float]]:
        return [{"step": k, "cpu_s": scale * k, **dict.fromkeys(JUDGED, end * k)} for k in range(1, steps + 1)]

    found = {seed: {"dense": arm(3, 1.0, 2), "longer": arm(1, 0.8 + 0.2 * seed, 4)} for seed in range(3)}
    rows = {(row["metric"], row.get("seed")): row["value"] for row in longer_rows(found, "")}
    assert rows["processor seconds of more steps over dense's", 0] == pytest.approx(4 / 6)
    assert rows["psnr_1_db of more steps minus dense's end", 0] == pytest.approx(1.2)
    assert rows["psnr_1_db of more steps minus dense's end, mean", None] == pytest.approx((1.2 + 2.0 + 2.8) / 3)
    assert rows["seconds to dense's last psnr_1_db", 0] == pytest.approx(6 / 2.5)  # 2.0 = 0.8 x 2.5 steps of 1 s
    assert rows["seconds to dense's last psnr_1_db, mean", None] == pytest.approx((6 / 2.5 + 6 / 2 + 6 / (5 / 3)) / 3)


def test_a_seed_that_never_gets_there_leaves_no_mean_of_those_that_do() -> None:
    def arm(ends: float) -> list[dict[str, float]]:
        return [{"step": 1, "cpu_s": 1.0, **dict.fromkeys(JUDGED, ends)}]

    found = {seed: {"dense": arm(1.0), "longer": arm(ends)} for seed, ends in enumerate((2.0, 0.5))}
    rows = {(row["metric"], row.get("seed")): row["value"] for row in longer_rows(found, "")}
    assert [rows["seconds to dense's last psnr_8_db", seed] for seed in (0, 1)] == [1.0, None]
    assert rows["seconds to dense's last psnr_8_db, mean", None] is None


def test_a_killed_model_goes_on_to_the_same_numbers(config: SparseCurveConfig, shared: Given, tmp_path: Path) -> None:
    cell, sizes = Cell(config.task, "debug", "procrustes", 0.5, 0), config.sizes("procrustes")

    def begin(home: Path) -> Racer:
        return Racer(cell, sizes, 16, shared, [2, 4, 6], home)

    whole = begin(tmp_path / "whole")
    whole.advance(6)  # without a stop at the first marks
    first = begin(tmp_path / "cut")
    first.advance(4)
    first.advance(5)  # and dies here
    second = begin(tmp_path / "cut")
    assert second.step == 4 and second.seconds == {name: first.points[-1][name] for name in second.seconds}
    second.advance(6)
    assert [point["step"] for point in second.points] == [4, 6]
    assert {m: second.points[-1][m] for m in JUDGED} == {m: whole.points[-1][m] for m in JUDGED}
    assert second.points[-1]["cpu_s"] > first.points[-1]["cpu_s"]


def test_a_miniature_writes_points_verdict_and_figure(config: SparseCurveConfig, shared: Given) -> None:
    rows = read_json(curve.benchmark(config))["rows"]
    assert {(row["arm"], row["step"]) for row in rows if "arm" in row} == {
        *((arm, step) for arm in curve.ARMS for step in (2, 4, 6)),
        *(("longer", step) for step in range(2, 19, 2)),
    }
    assert {row["metric"] for row in rows if "seed" not in row and "arm" not in row} == {
        *(f"{metric} minus dense at equal steps" for metric in JUDGED),
        *(f"speedup of equal steps, {words}" for words in curve.CLOCKS.values()),
        "processor seconds of more steps over dense's, mean",
        *(f"{metric} of more steps minus dense's end, mean" for metric in JUDGED),
        *(f"seconds to dense's last {metric}, mean" for metric in JUDGED),
    }
    assert config.result.with_suffix(".png").stat().st_size > 10_000
