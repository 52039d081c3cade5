"""Every rate of Cosmos: shapes there and back, and that no later frame changes anything earlier, bit for bit."""

import pytest
import torch

from procosm.world_model.errors import ProcosmError
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.tokenizer.rates import RATES, rate, rate_config

VIDEO_RATES = [name for name in RATES if name[1] == "V"]
HEIGHT, WIDTH = 32, 48


def make(name: str) -> CausalTokenizer:
    """One with random weights everywhere, so that layers which start as zero or identity take part."""
    torch.manual_seed(0)
    model = CausalTokenizer(rate_config(name, HEIGHT, WIDTH, channels=8, blocks=1))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model


def video(frames: int, count: int = 1) -> torch.Tensor:
    return torch.randint(0, 256, (count, frames, HEIGHT, WIDTH, 3), dtype=torch.uint8)


@pytest.mark.parametrize("name", RATES)
def test_frames_to_latents_and_back_have_the_shapes_that_the_name_says(name):
    model = make(name)
    kind, numbers = name[:2], [int(n) for n in name[2:].split("x")]
    k, pixels = numbers[0] if kind[1] == "V" else 1, numbers[-1]
    channels, vocabulary = (6, 64000) if kind[0] == "D" else (16, None)
    assert model.spec.shape == (channels, HEIGHT // pixels, WIDTH // pixels)
    assert (model.spec.frames_per_latent, model.spec.vocabulary) == (k, vocabulary)
    for frames in (1, 1 + k, 1 + 2 * k):
        latents = model.encode(video(frames, count=2))
        assert latents.shape == (2, 1 + (frames - 1) // k, *model.spec.shape)
        assert model.decode(latents).shape == (2, frames, HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("name", RATES)
def test_the_difference_that_later_frames_make_to_earlier_ones_is_exactly_zero(name):
    model, k = make(name), rate(name).frames
    frames = video(1 + 2 * k)
    latents = model.encode(frames)
    decoded = model.decode(latents)
    for later in range(1, 1 + 2 * k):
        changed = frames.clone()
        changed[:, later:] = 255 - changed[:, later:]
        untouched = 1 + (later - 1) // k  # latents; they hold so many frames:
        whole = 1 + (untouched - 1) * k
        after = model.encode(changed)
        assert torch.equal(after[:, :untouched], latents[:, :untouched])
        assert torch.equal(model.decode(after)[:, :whole], decoded[:, :whole])
        assert not torch.equal(after, latents)


@pytest.mark.parametrize("name", VIDEO_RATES)
def test_a_latent_changes_no_frame_before_its_own(name):
    model, k = make(name), rate(name).frames
    latents = torch.randn(1, 3, *model.spec.shape)
    frames = model.decode(latents)
    for later in (1, 2):
        changed = latents.clone()
        changed[:, later] += 1
        before, after = frames[:, : 1 + (later - 1) * k], model.decode(changed)
        assert torch.equal(after[:, : before.shape[1]], before) and not torch.equal(after, frames)


@pytest.mark.parametrize("name", VIDEO_RATES)
def test_a_first_frame_is_coded_as_an_image(name):
    model, k = make(name), rate(name).frames
    frames = video(1 + k)
    torch.testing.assert_close(model.encode(frames)[:, :1], model.encode(frames[:, :1]), atol=1e-5, rtol=0)


def test_unknown_rates_and_sides_that_are_no_multiple_are_named():
    with pytest.raises(ProcosmError, match=r"CV9x9x9.*DV8x16x16"):
        rate("CV9x9x9")
    with pytest.raises(ProcosmError, match=r"40 x 64 pixels.*CI16x16.*multiples of 16"):
        rate_config("CI16x16", 40, 64, 8, 0)
