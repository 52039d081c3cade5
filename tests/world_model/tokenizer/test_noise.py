"""The noise that a tokenizer's latents are decoded with where no state is logged: what it is, and what it is for."""

from dataclasses import replace

import pytest
import torch

from procosm.world_model.data.batch import Batch, random_batch
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


def test_errors_of_latents_cost_less_where_they_were_learned_with_noise():
    added = {}
    for noise in (0.0, 0.2):
        loss = made(noise)
        optimizer = torch.optim.AdamW(loss.parameters(), lr=3e-3)
        for step in range(300):
            optimizer.zero_grad()
            loss(stripes(16, step), torch.Generator().manual_seed(step))[0].backward()
            optimizer.step()
        with torch.no_grad():
            x = loss.tokenizer.pixels(stripes(64, 999).frames[:, :1])
            z = loss.tokenizer.to_latents(x)
            wrong = z + 0.3 * z.std((0, 2, 3, 4), keepdim=True) * torch.randn(z.shape, generator=seeded())
            clean, noisy = ((loss.tokenizer.to_pixels(each) - x).square().mean().item() for each in (z, wrong))
            added[noise] = noisy - clean
    assert added[0.2] < 0.6 * added[0.0]


def stripes(count: int, seed: int) -> Batch:
    """Two stripes that come and go, and a dot somewhere."""
    g = torch.Generator().manual_seed(seed)
    frames = torch.zeros(count, 3, SIDE, SIDE, 3, dtype=torch.uint8)
    for i in range(count):
        there, at = torch.rand(2, generator=g) < 0.5, torch.randint(SIDE, (2,), generator=g)
        frames[i, :, :4, :, 1] = 200 * there[0]
        frames[i, :, 12:, :, 2] = 200 * there[1]
        frames[i, :, at[0], at[1], 0] = 255
    return replace(random_batch(count, 2, 1, 1, {}), frames=frames)
