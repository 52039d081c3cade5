"""A published model is post-trained on a robot's log: it learns to take actions, in chunks of its own length."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
import torch

from procosm.world_model import checkpoint
from procosm.world_model.data.episodes import Episode, write_dataset
from procosm.world_model.data.task import MAIN, Task, View
from procosm.world_model.pretrained.recipe import Denoise
from procosm.world_model.training.post import PostTrainConfig, continued, post_train
from tests.world_model.pretrained.test_world import FAMILIES, ID, brightness, write_published

USE = {"height": 32, "width": 48, "drawn": 2}
TASK = Task("Robot-v0", (View(MAIN, 32, 48),), (-1.0, -2.0), (1.0, 2.0), 1, 0.1, 20)


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    """Pictures whose brightness is what was done last."""
    folder, generator = tmp_path_factory.mktemp("robot") / "data", np.random.default_rng(0)

    def episode(kind: str) -> Episode:
        actions = generator.uniform(-1, 1, (12, 2)).astype(np.float32)
        shades = np.concatenate([[0.5], 0.5 + 0.4 * actions[:, 0]]) * 255
        frames = np.broadcast_to(shades.astype(np.uint8)[:, None, None, None], (13, *TASK.frame_shape))
        return Episode(frames=frames, actions=actions, terminated=False, kind=kind)

    write_dataset(folder, TASK, [(episode(kind), None) for kind in ("train", "train", "holdout")], {}, None)
    return folder


@pytest.mark.parametrize("family", FAMILIES)
def test_a_published_model_learns_to_take_actions(log, tmp_path, family):
    base = write_published(tmp_path / "published", family, USE)
    config = PostTrainConfig(base, log, tmp_path / "mine", method="lora", lora_rank=2, add=("actions",))
    model = checkpoint.load(post_train(config, {"denoise": Denoise(3, 2, 1e-2)}))
    assert model.conditions == {"actions", "text"} and model.task.id == "Robot-v0" and model.frames_per_step == 8
    env = gym.make(ID, checkpoint=model, reward=brightness)
    seen = []
    for action in (-1.0, 1.0):
        env.reset(seed=0)
        seen.append(env.step(np.full((8, 2), action, np.float32))[4]["frames"].astype(int))
    assert np.abs(seen[0] - seen[1]).max() > 0


def test_before_it_is_trained_an_added_action_changes_nothing(tmp_path):
    old = checkpoint.load(write_published(tmp_path / "published", "predict1", USE))
    _, dynamics, new = continued(old, TASK, ("actions",))
    assert {name.split(".")[1] for name in new if name != "action_scale"} == {"action"}
    actions, memory = torch.rand(1, 8, 2), old.dynamics.begin(old.starts[:1])
    (_, before), (_, after) = (each.step(memory, actions) for each in (old.dynamics, dynamics))
    # Each latent now has an embedding of its own: the same sums, in other products.
    assert torch.allclose(before.latents, after.latents, atol=1e-5)


def test_the_loss_falls_where_actions_tell_what_comes(log, tmp_path):
    base = write_published(tmp_path / "published", "predict1", USE | {"image": True, "drawn": 1})
    stages = {"denoise": Denoise(60, 4, 3e-3, mean_share=1.0)}
    losses = {}
    for length in (1, 60):
        config = PostTrainConfig(base, log, tmp_path / f"{length}", add=("actions",))
        made = post_train(config, {"denoise": replace(stages["denoise"], steps=length)})
        losses[length] = checkpoint.load(made).metrics["denoise"]["loss"]
    assert losses[60] < 0.5 * losses[1]
