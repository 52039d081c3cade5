"""The judge of trust: AUROC and calibration of steps whose truth is made up here, and the benchmark once, small."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from procosm.benchmarks.dream import trust
from procosm.benchmarks.dream.long_dreams import statistics
from procosm.envs.trust.trust import Forecasts
from procosm.world_model import checkpoint
from procosm.world_model.errors import CheckpointError


def test_auroc_counts_the_steps_that_there_were_and_knows_the_horizon_alone():
    rng = np.random.default_rng(0)
    told = rng.uniform(size=(40, 12))
    error = np.where(rng.uniform(size=told.shape) < told, 0.1, 0.9)  # good with just the probability that was told
    there = np.arange(12) < rng.integers(1, 13, (40, 1))
    found = trust.Followed(told, np.where(there, error, np.nan), there)
    rows = {row["metric"]: row for row in trust.trust_rows(found, 0.5, "made up")}
    assert rows["AUROC"]["value"] == pytest.approx(roc_auc_score(error[there] <= 0.5, told[there]))
    assert rows["AUROC"]["low"] < rows["AUROC"]["value"] < rows["AUROC"]["high"]
    assert rows["AUROC of elapsed steps alone"]["low"] < 0.5 < rows["AUROC of elapsed steps alone"]["high"]
    assert rows["share of good steps"]["value"] == pytest.approx((error[there] <= 0.5).mean())
    assert rows["expected calibration error"]["value"] < 0.1


def test_calibration_error_by_hand():
    assert trust.calibration_error(np.array([0.95, 0.95, 0.05, 0.05]), np.array([1, 0, 0, 0])) == pytest.approx(
        0.5 * 0.45 + 0.5 * 0.05
    )
    assert trust.calibration_error(np.array([1.0, 1.0]), np.array([True, True])) == 0


def test_brightness_and_contrast_of_frames():
    frames = np.stack([np.full((4, 4, 3), 51, np.uint8), np.tile(np.array([0, 255], np.uint8), 24).reshape(4, 4, 3)])
    np.testing.assert_allclose(statistics(frames), [[0.2, 0.0], [0.5, 0.5]], atol=1e-12)


def test_the_whole_benchmark_small(truth_checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(trust, "COST_BATCH", 2)
    with pytest.raises(CheckpointError, match="calibrate"):
        trust.main(trust.TrustConfig(truth_checkpoint))
    model = checkpoint.load(truth_checkpoint)
    forecasts = Forecasts(2, 4, 1, 8)
    for name, value in {"std": 1.0, "change": 0.1, "low": -3.0, "high": 3.0, "bound": 0.5}.items():
        getattr(forecasts, name).fill_(value)
    forecasts.calibration.copy_(forecasts.calibration.new_tensor([1.0, 0.0, 1.0]))
    told = dataclasses.replace(model, trust=dict(forecasts.state_dict()))
    folder = checkpoint.save(tmp_path / "world_model", told)
    config = trust.TrustConfig(folder, episodes=4, steps=5, long_seeds=2, long_steps=20, out=tmp_path)
    rows = json.loads(trust.main(config).read_text())["rows"]
    assert {row["behaviour"] for row in rows} == {"random", "smooth noise", "all behaviours", "constant action"}
    long = {row["metric"]: row["value"] for row in rows if row["metric"].startswith("long dreams")}
    assert long["long dreams with finite states, rewards and trust in [0, 1]"] == 1.0
    assert all(0 <= row["value"] <= 1 for row in rows if row["metric"].startswith("trust at step"))
