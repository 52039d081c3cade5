"""Words become the same numbers everywhere, and change nothing until they are learned."""

import copy
import dataclasses
import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch

import procosm.envs  # noqa: F401
from procosm.world_model import checkpoint
from procosm.world_model.conditioning.frames import shown_counts
from procosm.world_model.conditioning.text import TextAttention, TextConfig, checked_text, embedded, some_untold
from procosm.world_model.errors import ProcosmError, TaskError
from procosm.world_model.interface import Condition
from procosm.world_model.model import WorldModel
from procosm.world_model.registry import with_condition
from tests.conftest import restless_model, simulated_task

CONFIG = TextConfig(tokens=6, size=32)
LEFT, RIGHT = "push the red ball left", "push the red ball right"


def test_the_same_words_are_the_same_numbers_in_every_process():
    code = (
        "from procosm.world_model.conditioning.text import *; "
        f"print(embedded(TextConfig(tokens=6, size=32), [{LEFT!r}]).double().sum().item())"
    )
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert float(told) == embedded(CONFIG, [LEFT]).double().sum().item()


def test_words_with_common_letters_are_alike_and_their_order_counts():
    said = embedded(TextConfig(tokens=1, size=512), ["pushing", "pushes", "green"])[:, 0]
    likeness = torch.nn.functional.cosine_similarity(said[:1], said[1:], dim=1)
    assert likeness[0] > 2 * likeness[1]
    first, second = embedded(CONFIG, ["red left of blue", "blue left of red"])
    assert not torch.allclose(first[0], second[3]) and first.std() == pytest.approx(0.9, abs=0.25)
    nothing, short, long = embedded(CONFIG, ["", "go", "one two three four five six seven eight"])
    assert not nothing.any() and short[0].any() and not short[1:].any() and long.shape == (6, 32)


def test_no_text_adds_nothing_whatever_was_learned_and_a_text_does():
    torch.manual_seed(0)
    attention = TextAttention(16, 2, 32)
    x, text = torch.randn(3, 5, 16), embedded(CONFIG, [LEFT, "", RIGHT])
    assert torch.equal(attention(x, text), x)  # nothing was learned
    torch.nn.init.normal_(attention.out.weight)
    out = attention(x, text)
    assert torch.equal(out[1], x[1]) and not torch.allclose(out[0], x[0])
    # Against attention written out.
    q = attention.norm_q(attention.q(attention.norm(x)).unflatten(-1, (2, 8)))
    k, v = attention.kv(text).unflatten(-1, (2, 2, 8)).unbind(2)
    scores = torch.einsum("bqkd,blkd->bkql", q, attention.norm_k(k)) / 8**0.5
    mixed = torch.einsum("bkql,blkd->bqkd", scores.softmax(-1), v).flatten(2)
    assert torch.allclose(out, x + mixed @ attention.out.weight.T, atol=1e-5)


@pytest.mark.parametrize("images", [0.0, 0.1, 0.125, 0.25, 0.5])
@pytest.mark.parametrize("fewer", [0.0, 0.25])
def test_an_eighth_of_the_rows_is_told_nothing_whatever_else_is_done_to_some(images, fewer):
    text = torch.ones(1024, 2, 3)
    untold = some_untold(text, slice(0, 1024))[:, 0, 0] == 0
    counts = shown_counts(1024, 3, fewer, images)
    for rows in (counts == 0, counts == 3, (counts > 0) & (counts < 3), torch.arange(1024) % 4 == 0):
        if rows.any():
            assert 0.09 < untold[rows].float().mean() < 0.16
    assert torch.equal(some_untold(text, slice(100, 300))[:, 0, 0] == 0, untold[100:300]), "of the whole batch"
    assert some_untold(None, slice(0, 4)) is None


def test_a_text_that_a_model_does_not_take_is_refused():
    latents = torch.zeros(2, 3, 1, 2, 2)
    assert checked_text(None, None, latents).shape == (2, 0, 0)
    with pytest.raises(ProcosmError, match="takes no text"):
        checked_text(None, Condition(text=torch.zeros(2, 6, 32)), latents)
    with pytest.raises(ProcosmError, match=r"takes texts of shape \(6, 32\)"):
        checked_text(CONFIG, Condition(text=torch.zeros(2, 6, 31)), latents)


@pytest.fixture(scope="module")
def model() -> WorldModel:
    """Untrained dynamics that take words, every weight of which counts; windows were logged under two texts."""
    made = restless_model(simulated_task("Told-v0", 32, 4), change=lambda config: with_condition(config, "text"))
    made.dynamics.outcome_head.net[-1].bias[1] -= 9.0  # dreams last
    return dataclasses.replace(made, texts=(LEFT, RIGHT), start_texts=torch.arange(9) % 2)


def test_dreams_follow_what_they_are_told_single_and_in_a_batch(model, tmp_path):
    folder = checkpoint.save(tmp_path / "model", model)
    single = gym.make("Procosm/World-v0", checkpoint=str(folder), observation="latent", starts="wide")
    assert single.unwrapped.conditions == {"actions", "text"}
    ends = {}
    for text in (LEFT, RIGHT, ""):
        _, info = single.reset(seed=1, options={"instruction": text})
        assert info["instruction"] == text
        ends[text] = single.step(np.zeros(1, np.float32))[0]
    assert not np.allclose(ends[LEFT], ends[RIGHT]) and not np.allclose(ends[LEFT], ends[""])
    many = gym.make_vec("Procosm/World-v0", 3, checkpoint=str(folder), observation="latent", starts="wide")
    _, infos = many.reset(seed=[1, 1, 1], options={"instruction": [LEFT, RIGHT, ""]})
    assert infos["instruction"].tolist() == [LEFT, RIGHT, ""]
    seen = many.step(np.zeros((3, 1), np.float32))[0]
    for row, text in enumerate((LEFT, RIGHT, "")):
        assert np.allclose(seen[row], ends[text], atol=1e-4)


def test_without_an_instruction_a_window_has_the_one_that_it_was_logged_under(model, tmp_path):
    folder = checkpoint.save(tmp_path / "model", model)
    env = gym.make("Procosm/World-v0", checkpoint=str(folder), starts="wide")
    for start in (3, 4):
        assert env.reset(options={"start": start})[1]["instruction"] == (LEFT, RIGHT)[start % 2]
    with pytest.raises(TaskError, match="give a text"):
        env.reset(options={"instruction": 3})


def test_guidance_moves_predictions_away_from_those_for_no_text(model):
    assert not model.dynamics.manifold.fitted  # so that what is predicted is linear in what the network says
    action, text = torch.zeros(9, 1), Condition(text=model.embed_text([LEFT] * 9))

    def dreamed(condition: Condition | None, guidance: float) -> torch.Tensor:
        dynamics = copy.copy(model.dynamics)
        dynamics.config = dataclasses.replace(dynamics.config, guidance=guidance)
        return dynamics.step(dynamics.begin(model.starts, condition), action)[1].latents

    plain, nothing, guided = dreamed(text, 0.0), dreamed(None, 0.0), dreamed(text, 2.0)
    assert torch.allclose(guided, plain + 2.0 * (plain - nothing), atol=1e-4) and not torch.allclose(guided, plain)


def test_a_model_that_takes_no_words_says_so(tiny_checkpoint):
    env = gym.make("Procosm/World-v0", checkpoint=str(tiny_checkpoint))
    assert env.unwrapped.conditions == {"actions"}
    with pytest.raises(TaskError, match="takes no words, it is told actions"):
        env.reset(options={"instruction": LEFT})


def test_a_text_without_words_says_nothing_and_one_that_no_checkpoint_keeps_is_refused():
    assert not embedded(TextConfig(), ["?", "  ", "—"]).any()
    assert embedded(TextConfig(), ["a" * 2000]).any()
    with pytest.raises(ProcosmError, match=r"2001 characters.*give 2000 or fewer"):
        embedded(TextConfig(), ["red", "b" * 2001])
