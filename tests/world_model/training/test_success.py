"""Reward and success are learned together in post-training, from a base that told of neither; dreams tell of both."""

from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch

from procosm.world_model import checkpoint
from procosm.world_model.data.episodes import Episode, load_episodes, write_dataset
from procosm.world_model.data.task import MAIN, REWARD, SUCCESS, Task, View
from procosm.world_model.training.post import PostTrainConfig, post_train
from procosm.world_model.training.presets import preset
from tests.conftest import restless_model

SIDE = 32
OLD = Task("Dark-v0", (View(MAIN, SIDE, SIDE),), (-1.0,), (1.0,), 1, 0.1, 20)
NEW = replace(OLD, id="Light-v0", signals={"reward": REWARD, "success": SUCCESS})
STAGES = {
    name: replace(stage, steps=250 if name == "diffusion" else 2)
    for name, stage in preset("debug").stages.items()
    if name != "tokenizer"
}


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """A lamp that an action turns on or off: pictures are bright or dark; where it is on, the goal is met, and paid."""
    folder, generator = tmp_path_factory.mktemp("lamp") / "data", np.random.default_rng(0)

    def episode(kind: str) -> Episode:
        actions = generator.uniform(-1, 1, (12, 1)).astype(np.float32)
        on = np.concatenate([[False], actions[:, 0] > 0])
        frames = np.broadcast_to(np.where(on, 210, 40).astype(np.uint8)[:, None, None, None], (13, SIDE, SIDE, 3))
        signals = {"success": on[1:].astype(np.float32), "reward": 2 * on[1:].astype(np.float32)}
        return Episode(frames=frames, actions=actions, terminated=False, kind=kind, signals=signals)

    kinds = ["train"] * 10 + ["holdout"] * 4
    write_dataset(folder, NEW, [(episode(kind), None) for kind in kinds], {}, None)
    return folder


@pytest.fixture(scope="module")
def folder(log, tmp_path_factory) -> Path:
    base = checkpoint.save(
        tmp_path_factory.mktemp("old") / "world_model", replace(restless_model(OLD), reward_range=None)
    )
    assert not checkpoint.load(base).dynamics.readouts & {"reward", "success"}
    out = tmp_path_factory.mktemp("new") / "world_model"
    return post_train(PostTrainConfig(base, log, out, device="cpu"), STAGES)


def test_both_are_told_right_of_real_frames_that_were_held_out(folder, log):
    model = checkpoint.load(folder)
    assert {"reward", "success"} <= model.dynamics.readouts
    rewards, chances, reached = [], [], []
    for episode in (each for each in load_episodes(log) if each.kind == "holdout"):
        latents = model.encode(np.asarray(episode.frames))
        windows = latents.unfold(0, model.dynamics.context, 1).movedim(-1, 1)
        read = model.dynamics.reader(windows)
        unit = torch.from_numpy(episode.actions[model.dynamics.context - 1 :])
        outcome = model.dynamics.outcome(windows[:-1, -1], read[:-1], windows[1:], unit)
        rewards.append(outcome[0])
        chances.append(outcome[3])
        reached.append(torch.from_numpy(episode.signals["success"][model.dynamics.context - 1 :]) > 0)
    reward, chance, goal = (torch.cat(each) for each in (rewards, chances, reached))
    assert goal.any() and not goal.all()
    assert chance[goal].min() > 0.5 > chance[~goal].max()
    assert (reward - 2 * goal.float()).abs().max() < 0.5


def test_dreams_say_whether_they_are_at_their_goal(folder):
    env = gym.make("procosm.envs:Procosm/World-v0", checkpoint=str(folder))
    assert env.reset(seed=0)[1]["success"] is False
    found = {env.step(np.array([way], np.float32))[4]["success"] for way in (1.0, 1.0, -1.0, -1.0)}
    assert found <= {True, False}
    batch = gym.make_vec("procosm.envs:Procosm/World-v0", num_envs=2, checkpoint=str(folder))
    batch.reset(seed=0)
    *_, infos = batch.step(np.array([[1.0], [-1.0]], np.float32))
    assert infos["success"].dtype == bool and infos["success"].shape == (2,) and infos["_success"].all()
    alone = [env.reset(seed=seed) and env.step(np.array([way], np.float32)) for seed, way in ((0, 1.0), (1, -1.0))]
    assert infos["success"].tolist() == [each[4]["success"] for each in alone]


def test_where_no_success_was_logged_none_is_told(tiny_checkpoint):
    env = gym.make("procosm.envs:Procosm/World-v0", checkpoint=str(tiny_checkpoint))
    assert "success" not in env.reset(seed=0)[1] and "success" not in checkpoint.load(tiny_checkpoint).capabilities
