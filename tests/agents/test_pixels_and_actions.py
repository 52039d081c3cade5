"""Pixels and actions with nothing else in the log: collected, trained on, judged by horizon, and the rest is named."""

import json

import gymnasium as gym
import pytest

from procosm.agents.judge.evaluate import STILL, EvaluateConfig
from procosm.agents.report.report import ReportConfig
from procosm.agents.road import collect_stage, evaluate_stage, report_stage, train_stage
from procosm.envs.collect.collect import CollectConfig
from procosm.world_model.training.train import TrainConfig
from tests.agents.conftest import SMALL_JUDGEMENT


def test_pixels_and_actions_alone_make_a_dream_that_is_judged_by_horizon(tmp_path, capsys):
    settings = {"steps": 150, "processes": 1, "signals": "none", "wide": 0.0, "constant": 0.0}
    data = collect_stage(CollectConfig("InvertedPendulum", tmp_path, **settings))
    train_stage(TrainConfig(data, tmp_path / "world_model", preset="debug"))
    dream = gym.make("procosm.envs:Procosm/World-v0", checkpoint=tmp_path, reward=lambda told: told["action"][:, 0])
    dream.reset(seed=0)
    _, reward, ended, _, info = dream.step(dream.action_space.high)
    assert reward == pytest.approx(3.0) and not ended and "state" not in info
    with pytest.raises(Exception, match="has learned no reward: give reward="):
        gym.make("procosm.envs:Procosm/World-v0", checkpoint=tmp_path)
    evaluate_stage(EvaluateConfig(tmp_path, **SMALL_JUDGEMENT))
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert {row["metric"] for row in metrics["open_loop"]} == {"pixel_mse", "psnr_db", "latent_mse"}
    assert set(metrics["left_out"]) - {"growth"} == {"returns", "state error", "films of the policy"}
    assert ("growth" in metrics) != (metrics["left_out"].get("growth") == STILL), "judged in features, if they moved"
    said = capsys.readouterr().out
    assert all(f"Left out: {name}, for {why}." in said for name, why in metrics["left_out"].items())
    assert "Left out: returns" in report_stage(ReportConfig(tmp_path)).read_text()
