"""The noise that a tokenizer's latents are decoded with where no state is logged: what it is, and what it is for."""

import pytest
import torch

from procosm.world_model.data.batch import random_batch
from procosm.world_model.data.share import Share, sharing
from procosm.world_model.heads import StateHead
from procosm.world_model.tokenizer.loss import MotionHead, TokenizerLoss, TokenizerLossConfig
from procosm.world_model.tokenizer.model import CausalTokenizer, TokenizerConfig

SIDE = 16


def made(noise: float, states: bool = False, levels: tuple[int, ...] = ()) -> TokenizerLoss:
    torch.manual_seed(0)
    config = TokenizerConfig(frame_height=SIDE, frame_width=SIDE, width=8, blocks=0, latent_size=4, levels=levels)
    model = CausalTokenizer(config)
    head = StateHead(3, model.spec.shape, 2) if states else MotionHead(3, model.spec.shape, 1)
    return TokenizerLoss(TokenizerLossConfig(noise=noise), model, head)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_it_has_the_size_that_is_asked_for_and_none_where_states_or_tokens_are():
    z = torch.randn(6, 4, 1, 4, 4)
    assert made(0.15).noise(200, 3, torch.zeros(600, 4, 1, 4, 4), seeded()).std().item() == pytest.approx(
        0.15, rel=0.02
    )
    assert not made(0.0).noise(2, 3, z, seeded()).any()
    assert not made(0.15, states=True).noise(2, 3, z, seeded()).any()
    assert not made(0.15, levels=(8, 5, 5, 5)).noise(2, 3, z, seeded()).any()


def test_shares_of_a_batch_have_their_parts_of_one_noise():
    loss, z = made(0.15), torch.zeros(12, 4, 1, 4, 4)
    whole = loss.noise(4, 3, z, seeded())
    parts = []
    for index in range(2):
        with sharing(Share(index, 2)):
            parts.append(loss.noise(2, 3, z[:6], seeded()))
    assert torch.equal(torch.cat(parts), whole)


def test_encoders_cannot_escape_it_by_making_their_latents_large():
    """The noise is in deviations of each channel, so that latents a hundred times as large are worth no more."""
    errors = []
    for scale in (1.0, 100.0):
        loss, batch = made(0.5), random_batch(4, 2, 1, 1, {}, frame=(SIDE, SIDE))
        first, last = loss.tokenizer.decoder[0].space.conv, loss.tokenizer.encoder[-1].space.conv
        with torch.no_grad():
            for weight in (last.weight, last.bias):
                weight.mul_(scale)
            first.weight.div_(scale)
        errors.append(loss(batch, seeded())[1]["mse"].item())
    assert errors[0] == pytest.approx(errors[1], rel=1e-4)


def test_what_is_small_survives_an_error_of_a_dream_where_it_was_learned_with_noise():
    """Two large stripes come and go, and with them one pixel, which a code without noise hides in its last digits."""
    left = {}
    for noise in (0.0, 0.3):
        loss = made(noise)
        optimizer = torch.optim.AdamW(loss.parameters(), lr=3e-3)
        for step in range(150):
            optimizer.zero_grad()
            loss(dotted(16, step), torch.Generator().manual_seed(step))[0].backward()
            optimizer.step()
        with torch.no_grad():
            batch = dotted(64, 999)
            x = loss.tokenizer.pixels(batch.frames[:, :1])
            z = loss.tokenizer.to_latents(x)
            z = z + 0.3 * z.std((0, 2, 3, 4), keepdim=True) * torch.randn(z.shape, generator=seeded())
            left[noise] = (loss.tokenizer.to_pixels(z) - x).square().mean().item()
    assert left[0.3] < 0.8 * left[0.0]


def dotted(count: int, seed: int):
    g = torch.Generator().manual_seed(seed)
    batch = random_batch(count, 2, 1, 1, {}, frame=(SIDE, SIDE))
    frames = torch.zeros(count, 3, SIDE, SIDE, 3, dtype=torch.uint8)
    for i in range(count):
        rows, at = torch.rand(2, generator=g) < 0.5, torch.randint(SIDE, (2,), generator=g)
        frames[i, :, :4, :, 1] = 200 * rows[0]
        frames[i, :, 12:, :, 2] = 200 * rows[1]
        frames[i, :, at[0], at[1], 0] = 255
    batch.frames[:] = frames
    return batch
