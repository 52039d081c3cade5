"""Judging what a log of pixels and actions, or a robot without a twin, can be asked; the rest is left out by name."""

import dataclasses
import json

import gymnasium as gym
import pytest

from procosm.agents.judge.evaluate import EvaluateConfig, evaluate
from procosm.agents.judge.measurements import read_metrics
from procosm.agents.policy.train import PolicyConfig, train_policy
from procosm.agents.policy.worlds import truth
from procosm.agents.report.report import write_report
from procosm.agents.report.verdict import told
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.play.pair import Actions, Pair
from procosm.world_model import checkpoint
from procosm.world_model.data.episodes import load_episodes, load_task, write_dataset
from procosm.world_model.errors import CheckpointError, TaskError
from tests.agents.conftest import SMALL_JUDGEMENT
from tests.conftest import restless_model

JUDGEMENT = SMALL_JUDGEMENT | {"horizon": 3, "windows": 4}


@pytest.fixture(scope="module")
def logged(tmp_path_factory):
    """Pixels and actions of InvertedPendulum alone."""
    out = tmp_path_factory.mktemp("less")
    return collect(CollectConfig("InvertedPendulum", out, steps=100, processes=1, signals="none", constant=0.0))


@pytest.fixture(params=["simulated", "robot"])
def run(request, logged, tmp_path):
    """A run with an untrained model; a robot's task has no twin."""
    task, episodes = load_task(logged), load_episodes(logged)
    if request.param == "robot":
        task = dataclasses.replace(task, id="my-arm", twin=None)
    write_dataset(tmp_path / "data", task, ((episode, None) for episode in episodes), {}, "{}")
    model = dataclasses.replace(restless_model(task), reward_range=None)
    checkpoint.save(tmp_path / "world_model", model)
    return tmp_path


def test_a_dream_of_pixels_and_actions_is_judged_by_horizon(run):
    evaluate(EvaluateConfig(run, **JUDGEMENT))
    found = read_metrics(run / "metrics.json", run)
    robot = found["task"] == "my-arm"
    assert {row["metric"] for row in found["open_loop"]} == {"pixel_mse", "psnr_db", "latent_mse"}
    assert {row["method"] for row in found["open_loop"]} >= {"dream", "copy last frame", "shuffled actions"}
    assert found["frame_size"] == found["frame_width"] == 64
    always = {"returns", "state error", "films of the policy"}
    assert set(found["left_out"]) == always | ({"sweep", "speed of MuJoCo"} if robot else set())
    assert found["growth_of"] == {"read": "features", "episodes": "holdout"} and found["growth"]
    assert ("nothing simulates" in found["left_out"]["returns"]) == robot
    assert not {"returns", "policy"} & set(found) and ("sweep" in found) != robot
    assert set(found["films"]) == {"comparison"} and ("mujoco" in found["speed"]) != robot
    assert found["real_steps"]["collected"] == 100 and found["real_steps"]["judging"] == 0
    page = write_report(run).read_text()
    assert "Growth under the recorded actions" in page and "dreamed over true change of features" in page
    for text in (told(found), page):
        assert all(f"eft out: {name}, for {why}." in text for name, why in found["left_out"].items())


def test_metrics_that_lack_a_part_say_why(run):
    evaluate(EvaluateConfig(run, **JUDGEMENT))
    found = json.loads((run / "metrics.json").read_text())
    del found["growth"], found["growth_of"]
    (run / "metrics.json").write_text(json.dumps(found))
    with pytest.raises(CheckpointError, match="growth is missing, and left_out does not say why"):
        read_metrics(run / "metrics.json", run)


def test_what_needs_a_reward_or_a_twin_says_so(run):
    model = checkpoint.load(run / "world_model")
    with pytest.raises(TaskError, match="has learned no reward: give reward="):
        train_policy(PolicyConfig(run / "world_model", run / "policy", observation="latent", dreams=4))
    dream = gym.make(
        "procosm.envs:Procosm/World-v0", checkpoint=run, reward=lambda told: -told["frames"].mean((1, 2, 3))
    )
    dream.reset(seed=0)
    _, earned, ended, *_ = dream.step(dream.action_space.sample())
    assert earned < 0 and not ended
    if model.task.twin is None:
        for make in (
            lambda: truth(model.task, "pixels"),
            lambda: gym.make("procosm.envs:Procosm/Truth-v0", checkpoint=run),
        ):
            with pytest.raises(TaskError, match="my-arm has no twin in MuJoCo"):
                make()
        with pytest.raises(TaskError, match="the growth test needs state and twin, and my-arm has pixels alone"):
            model.task.require("the growth test", "state", "twin")


def test_a_dream_without_rewards_is_played(run):
    pair = Pair(checkpoint.load(run / "world_model"), denoising_steps=1, horizon=9)
    action = pair.model.task.bounds[1]
    scene = pair.step(pair.begin(0), Actions(action, action), hold=1)
    assert scene.dream.reward is scene.dream.total is None and "No rewards" in pair.without_reward
    assert (scene.truth is None) == bool(pair.without_truth) == (pair.model.task.twin is None)
    pair.close()
