"""A dream remembers what was done in it, from its own beginning on."""

import numpy as np
import pytest
import torch

from procosm.agents.judge.open_loop import predictions
from procosm.envs.dreams.dreams import Dreams
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import Condition


@pytest.fixture
def restless(truth_checkpoint) -> WorldModel:
    """An untrained world in which everything told to the network counts."""
    model = load(truth_checkpoint)
    torch.manual_seed(0)
    for p in model.dynamics.net.parameters():
        p.add_(0.1 * torch.randn_like(p))
    return model


def begin(dreams: Dreams, windows: list[int]) -> torch.Tensor:
    """Begin all dreams; their first latents."""
    seeds = [np.random.default_rng(slot) for slot in range(len(windows))]
    dreams.restart(np.arange(len(windows)), seeds, windows)
    return dreams.latents.clone()


def test_a_dream_is_the_open_loop_of_its_actions_also_when_begun_again(restless):
    dreams, rng = Dreams(restless, 2), np.random.default_rng(0)
    for windows in ([0, 1], [1, 0]):
        begun, actions = begin(dreams, windows), rng.uniform(-1, 1, (2, 5, len(restless.task.action_low)))
        actions = actions.astype(np.float32)
        for t, predicted in enumerate(predictions(restless, begun, actions)):
            dreams.advance(actions[:, t])
            assert torch.allclose(dreams.latents[:, -1], predicted.latents, atol=1e-5)
            np.testing.assert_allclose(dreams.state, predicted.readouts["state"], atol=1e-4)


def test_what_was_done_before_bears_on_what_follows_and_comes_back_with_a_moment(restless):
    dreams, elsewhere = Dreams(restless, 2), Dreams(restless, 1)
    begun = begin(dreams, [0, 0])
    size, context = len(restless.task.action_low), restless.dynamics.context
    moments = []
    for slot, action in enumerate((1.0, -1.0)):  # only what was done shall tell the two apart
        done = Condition(torch.full((1, context - 1, size), action))
        moments.append(dreams.moment(slot)._replace(memory=restless.begin(begun[slot : slot + 1], done)))
        dreams.resume(slot, moments[slot])
    moment = moments[1]
    dreams.advance(np.zeros((2, size), np.float32))
    assert not torch.allclose(dreams.latents[0], dreams.latents[1], atol=1e-3)
    begin(elsewhere, [1])
    elsewhere.resume(0, moment)
    elsewhere.advance(np.zeros((1, size), np.float32))
    assert torch.allclose(elsewhere.latents[0], dreams.latents[1], atol=1e-6)


@pytest.mark.parametrize("name", ["latent", "state", "reward", "termination"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_step_that_is_no_number_says_what_and_where(linear_world, monkeypatch, name, value):
    """Whatever the dynamics say that is not finite ends the dream with its slot, step and window."""
    dreams, step = Dreams(linear_world, 3), linear_world.dynamics.step
    dreams.restart(np.arange(3), [np.random.default_rng(i) for i in range(3)], [4, 5, 6])

    def spoilt(*arguments):
        memory, said = step(*arguments)
        (said.latents if name == "latent" else said.readouts[name])[1] = value
        return memory, said

    dreams.advance(np.zeros((3, 1), np.float32))
    monkeypatch.setattr(linear_world.dynamics, "step", spoilt)
    with pytest.raises(ProcosmError, match=rf"{name} of {value} in slot 1, step 2 of the dream from window 5"):
        dreams.advance(np.zeros((3, 1), np.float32))


def test_a_start_that_is_no_number_is_named(linear_world):
    linear_world.starts[7] = np.nan
    with pytest.raises(ProcosmError, match="state of nan in slot 0, step 0 of the dream from window 7"):
        Dreams(linear_world, 1).restart(np.arange(1), [np.random.default_rng(0)], [7])


def test_pixels_that_are_no_numbers_are_refused(tiny_checkpoint):
    tokenizer = load(tiny_checkpoint).tokenizer
    latents = torch.zeros(3, 1, *tokenizer.spec.shape)
    latents[1] = float("nan")
    with pytest.raises(ProcosmError, match="frame 1 of 3 was decoded to pixels that are no finite numbers"):
        tokenizer.decode(latents)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_one_pixel_that_is_no_number_is_refused_and_all_that_are_have_their_levels(tiny_checkpoint, value, monkeypatch):
    tokenizer = load(tiny_checkpoint).tokenizer
    latents = torch.randn(3, 1, *tokenizer.spec.shape)
    to_pixels = tokenizer.to_pixels
    pixels = to_pixels((latents.transpose(1, 2) * tokenizer.std + tokenizer.mean).contiguous())
    levels = np.round((np.clip(pixels.numpy(), -1, 1) + np.float32(1)) * np.float32(127.5)).astype(np.uint8)
    np.testing.assert_array_equal(tokenizer.decode(latents), levels.transpose(0, 2, 3, 4, 1))

    def spoilt(z):
        x = to_pixels(z)
        x[1, 2, 0, 5, 63] = value
        return x

    monkeypatch.setattr(tokenizer, "to_pixels", spoilt)
    with pytest.raises(ProcosmError, match="frame 1 of 3 was decoded to pixels that are no finite numbers"):
        tokenizer.decode(latents)
