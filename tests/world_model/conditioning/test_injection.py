"""Three forms of being told of actions, on the same footing: each is trained by post-training, saved, opened and
stepped, adds nothing where it is new, and is what the prepared step computes.
"""

from dataclasses import replace
from pathlib import Path
from typing import get_args

import gymnasium as gym
import numpy as np
import pytest
import torch

from procosm.world_model import checkpoint
from procosm.world_model.conditioning.injection import Injection
from procosm.world_model.conditioning.text import TextConfig
from procosm.world_model.data.episodes import Episode, write_dataset
from procosm.world_model.interface import Condition
from procosm.world_model.settings import SettingsError
from procosm.world_model.training.post import PostTrainConfig, continued, post_train
from procosm.world_model.training.presets import preset
from tests.conftest import restless_model, simulated_task

FORMS = get_args(Injection)
SIDE = 32
STAGES = {name: replace(stage, steps=4) for name, stage in preset("debug").stages.items() if name != "tokenizer"}


def task_of(actions: int):
    return simulated_task("Told-v0", SIDE, 4, actions=actions)


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    """A model that takes words and is told nothing of actions."""
    model = restless_model(task_of(2), change=lambda config: replace(config, acts=False, text=TextConfig()))
    return checkpoint.save(tmp_path_factory.mktemp("silent") / "world_model", model)


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """Of a robot with one action more."""
    folder, generator, task = tmp_path_factory.mktemp("log") / "data", np.random.default_rng(0), task_of(3)

    def episode(kind: str) -> Episode:
        return Episode(
            frames=generator.integers(0, 256, (9, *task.frame_shape), np.uint8),
            actions=generator.uniform(-1, 1, (8, 3)).astype(np.float32),
            terminated=False,
            kind=kind,
            signals={
                "state": generator.normal(size=(9, 4)).astype(np.float32),
                "reward": generator.normal(size=8).astype(np.float32),
            },
            text="go on",
        )

    write_dataset(folder, task, [(episode(kind), None) for kind in ("train", "train", "holdout")], {}, None)
    return folder


@pytest.mark.parametrize(("form", "method"), [*zip(FORMS, ("full", "lora", "full"), strict=True)])
def test_each_form_is_trained_saved_opened_and_stepped(base, log, tmp_path, form, method):
    out = tmp_path / "world_model"
    config = PostTrainConfig(base, log, out, method=method, lora_rank=2, add=("actions",), injection=form)
    folder = post_train(config, STAGES)
    env = gym.make("procosm.envs:Procosm/World-v0", checkpoint=str(folder), observation="latent")
    assert env.unwrapped.conditions == {"actions", "text"}
    ends = []
    for way in (-1.0, 1.0):
        env.reset(seed=0)
        for _ in range(2):
            seen, *_ = env.step(np.full(3, way, np.float32))
        ends.append(seen)
    assert not np.allclose(*ends, atol=1e-7), "what is done counts"
    model = checkpoint.load(folder)
    assert model.dynamics.config.injection == form
    for name, slots in model.dynamics.action_columns.items():
        weight = model.dynamics.state_dict()[name]
        assert slots == model.dynamics.context and weight[:, -6:-3].any(), "it has learned of the newest action"


@pytest.mark.parametrize("form", FORMS)
def test_actions_that_are_added_change_nothing_at_first(base, form):
    old = checkpoint.load(base)
    _, dynamics, _ = continued(old, task_of(3), ("actions",), form)
    assert dynamics.conditions == {"actions", "text"}
    context = torch.randn(4, old.dynamics.context, *old.tokenizer.spec.shape)
    before, after = (torch.rand(4, old.dynamics.context, n) * 2 - 1 for n in (2, 3))
    with torch.no_grad():
        wanted = old.dynamics.advance(context, before)
        if form != "timestep":  # what the embedding of no action added is not in these forms
            _, plain, _ = continued(old, task_of(3), (), form)
            wanted = plain.advance(context, torch.zeros_like(after))
        assert torch.allclose(dynamics.advance(context, after), wanted, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_the_prepared_step_is_the_networks_own_pass(form):
    model = restless_model(task_of(2), change=lambda config: replace(config, injection=form))
    dynamics, context = model.dynamics, model.starts[:3]
    actions = torch.rand(3, dynamics.context, 2) * 2 - 1
    memory = dynamics.begin(context, Condition(actions=actions[:, :-1]))
    with torch.no_grad():
        stepped = dynamics.step(memory, actions[:, -1])[1].latents
        assert torch.allclose(stepped, dynamics.advance(context, actions), atol=1e-4)
        other = dynamics.advance(context, torch.cat([actions[:, :-1], -actions[:, -1:]], dim=1))
    assert (other - stepped).abs().max() > 1e-4, "the newest action counts"


@pytest.mark.parametrize("form", FORMS)
def test_number_i_of_an_action_stays_number_i_in_every_form(form):
    old = restless_model(task_of(2), change=lambda config: replace(config, injection=form))
    _, dynamics, new = continued(old, task_of(3))
    assert not [name for name in new if name.startswith("net.")]
    context = torch.randn(4, old.dynamics.context, *old.tokenizer.spec.shape)
    two = torch.rand(4, old.dynamics.context, 2) * 2 - 1
    three = torch.cat([two, torch.rand(4, old.dynamics.context, 1)], dim=2)
    with torch.no_grad():
        assert torch.allclose(dynamics.advance(context, three), old.dynamics.advance(context, two), atol=1e-5)


def test_tokens_are_told_of_actions_in_one_form_alone():
    sizes = preset("debug", dynamics="autoregressive")
    model = restless_model(task_of(2))
    model = replace(model, dynamics=type("Tokens", (), {"config": sizes.dynamics})())
    with pytest.raises(SettingsError, match="--injection: such dynamics are told of actions in one form alone"):
        continued(model, task_of(2), (), "channels")
