"""The diffusion decoder on tokens that leave open which of two latents they stand for."""

import numpy as np
import pytest
import torch

from procosm.world_model.diffusion.decoder import DecoderConfig, DiffusionDecoder
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import LatentSpec, Sampling

COARSE, FINE = LatentSpec((2, 2, 2), 4, 16), LatentSpec((3, 4, 4), 4)
TINY = DecoderConfig(TransformerConfig(width=32, layers=1, heads=2, mlp_ratio=2, adaln_rank=8), mean_share=0.25)


def clips(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Latents of tokens, and finer ones: the token's first number with a sign that it does not tell, same all over."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, 2, 2, 2, generator=generator) + 0.5
    sign = torch.randint(2, (count, 3, 1, 1, 1), generator=generator) * 2.0 - 1
    fine = coarse[:, :, :1].repeat_interleave(2, 3).repeat_interleave(2, 4).expand(-1, -1, 3, -1, -1)
    return coarse, fine * sign


@pytest.fixture(scope="module")
def decoder() -> DiffusionDecoder:
    torch.manual_seed(0)
    model = DiffusionDecoder(TINY, COARSE, FINE)
    optimizer = torch.optim.AdamW(model.parameters(), 4e-3)
    generator = torch.Generator().manual_seed(1)
    for step in range(250):
        optimizer.zero_grad()
        model.loss(*clips(24, step), generator)[0].backward()
        optimizer.step()
    return model.eval()


def test_it_draws_one_of_the_latents_where_the_mean_is_neither(decoder):
    coarse, fine = clips(64, 10**6)
    size = fine.abs()
    mean = decoder(coarse)
    draws = [np.random.default_rng(i) for i in range(64)]
    drawn = decoder(coarse, draws, Sampling(12, "unipc"))
    assert mean.abs().mean() < 0.4 * size.mean() < 0.7 * size.mean() < drawn.abs().mean()
    signs = drawn.mean((2, 3, 4)).sign()
    assert 0.25 < (signs > 0).float().mean() < 0.75
    error = (drawn.abs() - size).square().mean() / size.square().mean()
    shuffled = (drawn.abs() - size.roll(1, 0)).square().mean() / size.square().mean()
    assert error < shuffled  # it follows its own tokens


def test_each_clip_draws_from_its_own_generator_and_tokens_of_later_latents_change_nothing(decoder):
    coarse, _ = clips(3, 5)
    whole = decoder(coarse, [np.random.default_rng(i) for i in range(3)], Sampling(2))
    alone = decoder(coarse[1:2], [np.random.default_rng(1)], Sampling(2))
    torch.testing.assert_close(whole[1:2], alone, atol=1e-4, rtol=1e-4)
    later = torch.cat([coarse[:, :2], coarse[:, 2:] + 1], dim=1)
    changed = decoder(later, [np.random.default_rng(i) for i in range(3)], Sampling(2))
    assert torch.equal(changed[:, :2], whole[:, :2]) and not torch.equal(changed[:, 2:], whole[:, 2:])


@pytest.mark.parametrize("fine", [LatentSpec((3, 4, 4), 8), LatentSpec((3, 5, 4), 4), LatentSpec((3, 4, 6), 4)])
def test_tokenizers_that_do_not_go_together_are_named(fine):
    with pytest.raises(ProcosmError, match="cannot become latents"):
        DiffusionDecoder(TINY, COARSE, fine)
