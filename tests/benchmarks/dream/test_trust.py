"""The judge of trust: AUROC and calibration of steps whose truth is made up here, and the benchmark once, small."""

import dataclasses
import json

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from procosm.benchmarks.dream import trust, trust_clock
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


def good_by_chance(chance: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    good = np.random.default_rng(seed).random(chance.shape) < chance
    return good, np.ones(chance.shape, bool)


def test_a_clock_adds_nothing_to_a_clock():
    """However well it tells early steps from late ones: within one horizon it knows nothing, and its skill is none."""
    chance = np.broadcast_to(np.linspace(0.95, 0.05, 10), (4000, 10))
    good, there = good_by_chance(chance, 0)
    assert roc_auc_score(good.ravel(), chance.ravel()) > 0.8
    assert trust_clock.within_horizon(chance, good, there) == pytest.approx(0.5)
    assert trust_clock.brier_skill(chance, good, there) == pytest.approx(0.0, abs=0.005)
    assert trust_clock.excess(chance, good, there) == pytest.approx(0.0, abs=0.01)
    assert trust_clock.excess(np.clip(chance + 0.2, 0, 1.2), good, there) == pytest.approx(0.2, abs=0.01)


def test_who_knows_which_dream_is_good_has_skill():
    """Half of the dreams are better than the others at every step, and trust knows it: against scikit-learn's AUROC."""
    chance = np.clip(np.linspace(0.9, 0.1, 10) + np.repeat([0.1, -0.1], 1000)[:, None], 0, 1)
    good, there = good_by_chance(chance, 1)
    there = there & (np.arange(10) < np.random.default_rng(2).integers(1, 11, (2000, 1)))
    found = trust_clock.within_horizon(chance, good, there)
    columns = zip(chance.T, good.T, there.T, strict=True)
    both = [(roc_auc_score(y[t], p[t]), y[t].sum() * (~y[t]).sum()) for p, y, t in columns]
    assert found == pytest.approx(sum(a * n for a, n in both) / sum(n for _, n in both))
    clock = good.mean(0)  # of so many others it is the share of all
    skill = 1 - np.square(chance - good)[there].mean() / np.square(clock - good)[there].mean()
    assert trust_clock.brier_skill(chance, good, there) == pytest.approx(skill, abs=0.01) and skill > 0.03
    assert trust_clock.brier_skill(1 - chance, good, there) < 0


def test_the_clock_leaves_out_the_dream_it_tells_of():
    good, there = np.array([[True], [False], [False]]), np.ones((3, 1), bool)
    assert trust_clock.clock(good, there)[:, 0].tolist() == [0.0, 0.5, 0.5]
    assert trust_clock.clock(good[:1], there[:1])[0, 0] == 0.5, "where there is no other, nothing is known"


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
