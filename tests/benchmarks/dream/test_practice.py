"""The benchmark of learners: a row for each look at a training, on a clock that stands still while MuJoCo is played."""

import time

import numpy as np
import pytest

from procosm.agents.judge.rollouts import Played
from procosm.benchmarks.dream import practice as benchmark
from procosm.world_model.files import read_json

SMALL = {"dreams": 8, "horizon": 2, "rollout_steps": 2, "iterations": 4, "width": 16, "epochs": 1}
LOOK_S = 0.5


def test_the_smallest_comparison_has_every_look_and_leaves_it_out_of_the_seconds(
    tmp_path, tiny_checkpoint, monkeypatch
):
    def played(player, seeds, processes):
        until = time.process_time() + LOOK_S
        while time.process_time() < until:
            pass
        return [Played(seed, float(seed % 7), 1, True, -1, None) for seed in seeds]

    monkeypatch.setattr(benchmark, "play_truth", played)
    monkeypatch.setattr(benchmark, "SETTINGS", dict.fromkeys(("ppo", "sac", "shac"), SMALL))
    config = benchmark.PracticeConfig(tiny_checkpoint, tmp_path, looks=2, episodes=3, seeds=1, device="cpu")
    began = time.process_time()
    result = benchmark.practice(config)
    whole = time.process_time() - began
    rows = read_json(result)["rows"]
    assert [(row["algorithm"], row["imagined_steps"]) for row in rows] == [
        (algorithm, steps) for algorithm in ("ppo", "sac", "shac") for steps in (32, 64)
    ]
    seeds = range(benchmark.FIRST_SEED, benchmark.FIRST_SEED + 3)
    assert all(row["value"] == pytest.approx(np.mean([seed % 7 for seed in seeds])) for row in rows)
    assert 0 < sum(row["seconds"] for row in rows[1::2]) < whole - 6 * LOOK_S
    assert result.with_suffix(".png").stat().st_size > 10_000
