"""A log in which words alone tell what comes: a model that is told them learns it, and one that is not cannot."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from procosm.world_model import checkpoint
from procosm.world_model.data.episodes import Episode, load_episodes, write_dataset
from procosm.world_model.data.task import MAIN, Task, View
from procosm.world_model.interface import Condition
from procosm.world_model.settings import SettingsError
from procosm.world_model.training.post import continued
from procosm.world_model.training.presets import preset
from procosm.world_model.training.train import TrainConfig, train

TASK = Task("Light-v0", (View(MAIN, 32, 32),), (-1.0,), (1.0,), 1, 0.1, 20)
TEXTS = ("make it brighter", "make it darker")
SIZES = (
    preset("debug")
    .with_stage("tokenizer", steps=120, batch=8)
    .with_stage("diffusion", steps=150, batch=16, learning_rate=3e-3)
    .with_stage("unroll", steps=2)
)
BRIEF = SIZES
for _stage in ("tokenizer", "state_head", "manifold", "diffusion"):
    BRIEF = BRIEF.with_stage(_stage, steps=2)


@pytest.fixture(scope="module")
def log(tmp_path_factory) -> Path:
    """Grey pictures that get brighter or darker as was asked for, whatever is done."""
    folder, generator = tmp_path_factory.mktemp("light") / "data", np.random.default_rng(0)

    def episode(kind: str, number: int) -> Episode:
        way = 1 if number % 2 == 0 else -1
        shades = 128 + generator.uniform(-20, 20) + 12 * way * np.arange(7)
        frames = np.broadcast_to(shades.astype(np.uint8)[:, None, None, None], (7, *TASK.frame_shape))
        actions = generator.uniform(-1, 1, (6, 1)).astype(np.float32)
        return Episode(frames=frames, actions=actions, terminated=False, kind=kind, text=TEXTS[number % 2])

    kinds = ["train"] * 16 + ["holdout"] * 4
    write_dataset(folder, TASK, [(episode(kind, i), None) for i, kind in enumerate(kinds)], {}, None)
    return folder


@pytest.fixture(scope="module")
def model(log, tmp_path_factory):
    out = tmp_path_factory.mktemp("made") / "world_model"
    return checkpoint.load(train(TrainConfig(data=log, out=out, text=True, acts=False, device="cpu"), SIZES))


def test_what_is_asked_for_comes_about_from_the_same_frame(model):
    assert model.conditions == {"text"} and model.texts == tuple(sorted(TEXTS)) and model.start_texts is not None
    grey = torch.full((2, 1, *TASK.frame_shape), 128, dtype=torch.uint8)
    memory = model.begin(model.encode(grey.numpy()), Condition(text=model.embed_text(TEXTS)))
    for _ in range(3):
        memory, prediction = model.step(memory, torch.zeros(2, 1))
    brighter, darker = model.decode(prediction.latents).float().mean((1, 2, 3))
    assert brighter > darker + 10


def test_what_is_done_changes_nothing_where_it_is_not_told(model):
    memory = model.begin(model.starts[:1])
    ends = [model.step(memory, torch.full((1, 1), value))[1].latents for value in (-1.0, 1.0)]
    assert torch.equal(*ends)


def test_no_acts_needs_words_and_tokens_take_none_here(log, tmp_path):
    with pytest.raises(SettingsError, match="--no-acts without --text or --rays"):
        train(TrainConfig(data=log, out=tmp_path / "a", acts=False), SIZES)
    tokens = preset("debug", dynamics="autoregressive")
    with pytest.raises(SettingsError, match="no text can be added to such dynamics"):
        train(TrainConfig(data=log, out=tmp_path / "a", text=True, family="autoregressive"), tokens)


def test_a_log_without_a_text_teaches_no_words(log, tmp_path):
    silent = [(replace(episode, text=""), None) for episode in load_episodes(log)]
    write_dataset(tmp_path / "data", TASK, silent, {}, None)
    with pytest.raises(SettingsError, match=r"--text: no episode of .* says what was asked for"):
        train(TrainConfig(data=tmp_path / "data", out=tmp_path / "a", text=True, device="cpu"), BRIEF)
    assert not (tmp_path / "a").exists()


def test_words_can_be_added_to_a_model_that_took_none_and_change_nothing_at_first(log, tmp_path):
    plain = checkpoint.load(train(TrainConfig(data=log, out=tmp_path / "plain", preset="debug"), BRIEF))
    _, dynamics, new = continued(plain, TASK, ("text",))
    assert dynamics.conditions == {"actions", "text"} and all(name.startswith("net.text.") for name in new)
    told = Condition(text=dynamics.embed_text(["anything at all"]))
    before, after = plain.dynamics, dynamics
    action = torch.zeros(1, 1)
    one = before.step(before.begin(plain.starts[:1]), action)[1]
    assert torch.equal(one.latents, after.step(after.begin(plain.starts[:1], told), action)[1].latents)
