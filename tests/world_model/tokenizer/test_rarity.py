"""Rare colours weigh more: by their frequency, to a power, with a floor."""

import pytest
import torch

from procosm.world_model.heads import StateHead
from procosm.world_model.tokenizer.loss import MotionHead, TokenizerLoss, TokenizerLossConfig
from procosm.world_model.tokenizer.model import CausalTokenizer, TokenizerConfig
from procosm.world_model.tokenizer.rarity import FLOOR, ColourRarity

SIDE = 32


def pictures() -> torch.Tensor:
    """(10, 3, 1, 32, 32) differences from a mean frame: none, an eighth blue, and four red pixels a picture."""
    away = torch.zeros(10, 3, 1, SIDE, SIDE)
    away[:, 2, :, :4] = 1.5
    away[:, 0, :, 20, 4:8] = 1.5
    return away


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
def test_weights_follow_the_frequency_of_a_colour(power):
    rarity = ColourRarity(power)
    rarity.fit(pictures().split(3))
    red, blue = 4 / SIDE**2, 1 / 8
    common = 1 - red - blue
    expected = torch.ones(10, 1, 1, SIDE, SIDE)
    expected[:, :, :, :4] = ((common + FLOOR) / (blue + FLOOR)) ** power
    expected[:, :, :, 20, 4:8] = ((common + FLOOR) / (red + FLOOR)) ** power
    torch.testing.assert_close(rarity(pictures()), expected)


def test_every_colour_counts_alike_at_power_one():
    """The sum of weights over the pixels of a colour, but for the floor."""
    rarity = ColourRarity(1.0)
    rarity.fit([pictures()])
    weights = rarity(pictures())
    blue, common = weights[:, :, :, :4].sum(), weights[:, :, :, 4:].sum() - weights[:, :, :, 20, 4:8].sum()
    assert blue.item() == pytest.approx(common.item(), rel=0.01)


def test_a_colour_that_was_never_seen_is_rare_and_bounded():
    rarity = ColourRarity(1.0)
    rarity.fit([pictures()])
    green = torch.zeros(1, 3, 1, 1, 1)
    green[:, 1] = 1.5
    assert rarity(pictures()).amax() < rarity(green).item() <= 1 / FLOOR + 1


@pytest.mark.parametrize("states", [False, True])
def test_rare_colours_weigh_more_where_no_state_is_logged(states):
    """Nothing moves and no foreground is told apart, so that what is left is rarity."""
    torch.manual_seed(0)
    model = CausalTokenizer(TokenizerConfig(frame_height=SIDE, frame_width=SIDE, width=8, latent_size=4))
    head = StateHead(3, model.spec.shape, 2) if states else MotionHead(3, model.spec.shape, 2)
    loss = TokenizerLoss(TokenizerLossConfig(foreground_weight=0.0), model, head)
    loss.rarity.fit([pictures()])
    x = pictures()[:3]
    expected = torch.ones(3, 1, 1, SIDE, SIDE) if states else loss.rarity(x)
    torch.testing.assert_close(loss.weight(x, 3), expected)
    assert states or loss.weight(x, 3)[0, 0, 0, 20, 5] > 10
