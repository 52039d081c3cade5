"""The ratios against arithmetic by hand, and a whole run in miniature against the contract of result files."""

import json

import pytest

from procosm.benchmarks.machine.dream_speed import DreamSpeedConfig, dream_speed, ratios


def test_ratios_are_taken_round_by_round():
    place = {"observation": "latent", "batch": 4}
    measured = [
        ({"metric": "dream_steps_per_s", **place}, [100.0, 50.0]),
        ({"metric": "dynamics_steps_per_s", "batch": 4}, [125.0, 100.0]),
        ({"metric": "raw_short_episodes_steps_per_s", "observation": "state", "batch": 4}, [40.0, 20.0]),
        ({"metric": "sb3_short_episodes_steps_per_s", "observation": "state", "batch": 4}, [36.0, 10.0]),
        ({"metric": "mujoco_rendered_steps_per_s", "batch": 2}, [50.0, 10.0]),
        ({"metric": "mujoco_without_rendering_steps_per_s", "batch": 2}, [400.0, 500.0]),
    ]
    found = {row["metric"]: values for row, values in ratios(measured)}
    assert found["dream_over_mujoco"] == [2.0, 5.0]
    assert found["dream_over_mujoco_without_rendering"] == [0.25, 0.1]
    assert found["share_of_step_outside_dynamics"] == pytest.approx([0.2, 0.5])
    assert found["sb3_over_raw"] == [0.9, 0.5]


def test_a_short_run_writes_every_row(truth_checkpoint, tmp_path):
    out = tmp_path / "dream_speed.json"
    config = DreamSpeedConfig(
        (truth_checkpoint,), out, batches=(1, 2), observations=("latent",), adapter_batch=2, rounds=1, seconds=0.02,
        processes=1,
    )  # fmt: skip
    result = json.loads(dream_speed(config).read_text())
    assert {"benchmark", "command", "commit", "date", "hardware", "versions", "rows"} <= result.keys()
    for row in result["rows"]:
        assert {"metric", "task", "value", "unit", "seed", "n", "low", "high"} <= row.keys()
        assert row["task"] == "InvertedPendulum-v5" and row["low"] <= row["value"] <= row["high"]
        assert row["tokens"] == 16 and row["products"] == "bfloat16"
    counted = {(row["metric"], row["batch"]) for row in result["rows"]}
    assert counted == {
        *((metric, batch) for metric in ("dream_steps_per_s", "dynamics_steps_per_s") for batch in (1, 2)),
        *((metric, batch) for metric in ("dream_over_mujoco", "share_of_step_outside_dynamics") for batch in (1, 2)),
        *(("dream_over_mujoco_without_rendering", batch) for batch in (1, 2)),
        ("raw_short_episodes_steps_per_s", 2),
        ("sb3_short_episodes_steps_per_s", 2),
        ("sb3_over_raw", 2),
        ("mujoco_rendered_steps_per_s", 1),
        ("mujoco_without_rendering_steps_per_s", 1),
    }
