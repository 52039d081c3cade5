import copy
import dataclasses

import numpy as np
import pytest
import torch

from procosm.world_model.autoregressive.dynamics import AutoregressiveConfig, AutoregressiveDynamics
from procosm.world_model.autoregressive.transformer import TransformerConfig
from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import Condition, Sampling
from procosm.world_model.tokenizer.model import CausalTokenizer, TokenizerConfig

TINY = AutoregressiveConfig(TransformerConfig(24, layers=2, heads=2, kv_heads=1, hidden=32, medusa_heads=2))
CODED = TokenizerConfig(32, 32, latent_size=4, width=8, blocks=0, latent_channels=3, levels=(4, 3, 3))


@pytest.fixture
def parts() -> tuple[CausalTokenizer, AutoregressiveDynamics]:
    torch.manual_seed(0)
    tokenizer = CausalTokenizer(CODED)
    tokenizer.fit_latents(torch.rand(2, 3, 3, 4, 4) * 2 - 1)
    dynamics = AutoregressiveDynamics(TINY, tokenizer, action_size=2, state_size=3)
    with torch.no_grad():
        for parameter in dynamics.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        dynamics.action_high.fill_(4.0)
    return tokenizer, dynamics.requires_grad_(False).eval()


def latents_of(tokenizer: CausalTokenizer, frames: int, batch: int = 2) -> torch.Tensor:
    """Of real frames: codes, standardised."""
    torch.manual_seed(3)
    return tokenizer.encode(torch.randint(0, 256, (batch * frames, 1, 32, 32, 3), dtype=torch.uint8)).unflatten(
        0, (batch, frames)
    )[:, :, 0]


def test_a_dream_is_one_pass_over_all_that_was_seen_and_done(parts):
    """Frames of a dream, fed to the transformer without a cache, have as most probable tokens those that it dreamed."""
    tokenizer, dynamics = parts
    seen, past, actions = latents_of(tokenizer, 3), torch.rand(2, 2, 2), torch.rand(2, 4, 2)
    memory, frames = dynamics.begin(seen, Condition(past)), [seen]
    for action in actions.unbind(1):
        memory, prediction = dynamics.step(memory, action)
        frames.append(prediction.latents[:, None])
    tokens = tokenizer.quantize(torch.cat(frames, dim=1)).flatten(1)
    unknown = torch.full((2, 1, 2), torch.nan)
    done = torch.cat([unknown, dynamics.unit_action(torch.cat([past, actions], dim=1))], dim=1)
    n = 16
    found = dynamics.net.logits(dynamics.net(tokens, done)).argmax(-1)[:, 3 * n - 1 : -1]
    assert torch.equal(found, tokens[:, 3 * n :]) and len(found.unique()) > 1
    torch.testing.assert_close(tokenizer.dequantize(tokens.view(2, 7, 4, 4))[:, 4:], memory.latents)


def test_what_was_done_before_counts_and_what_nobody_knows_is_something_else(parts):
    tokenizer, dynamics = parts
    seen = latents_of(tokenizer, 3)
    conditions = [None, Condition(torch.zeros(2, 2, 2)), Condition(torch.full((2, 2, 2), 3.0))]
    keys = [dynamics.begin(seen, each).cache.keys[1] for each in conditions]
    assert all(not torch.allclose(keys[a], keys[b], atol=1e-3) for a, b in ((0, 1), (0, 2), (1, 2)))


def test_a_temperature_and_what_may_be_drawn_are_the_callers(parts):
    tokenizer, dynamics = parts
    seen, action = latents_of(tokenizer, 3), torch.zeros(2, 2)

    def drawn(sampling: Sampling) -> torch.Tensor:
        draws = [np.random.default_rng(seed) for seed in (1, 2)]
        return dynamics.step(dynamics.begin(seen), action, draws, sampling)[1].latents

    greedy = dynamics.step(dynamics.begin(seen), action)[1].latents
    assert torch.equal(drawn(Sampling(2, temperature=1e-4)), greedy)
    assert torch.equal(drawn(Sampling(2, top_k=1)), greedy) and torch.equal(drawn(Sampling(2, top_p=1e-9)), greedy)
    assert not torch.equal(drawn(Sampling(2)), greedy)


def test_continuous_latents_are_refused():
    with pytest.raises(ProcosmError, match="predict tokens, and this tokenizer's latents are continuous"):
        AutoregressiveDynamics(TINY, CausalTokenizer(dataclasses.replace(CODED, levels=())), 2, 3)


def test_a_text_counts_where_the_model_takes_one_and_is_refused_where_it_does_not(parts):
    tokenizer, plain = parts
    torch.manual_seed(0)
    reads = dataclasses.replace(TINY.transformer, text_tokens=2, text_size=5)
    dynamics = AutoregressiveDynamics(dataclasses.replace(TINY, transformer=reads), tokenizer, 2, 3).eval()
    seen, text = latents_of(tokenizer, 3), torch.randn(2, 2, 5)
    keys = [dynamics.begin(seen, Condition(text=each)).cache.keys[1] for each in (None, text)]
    assert not torch.allclose(*keys, atol=1e-3)
    with pytest.raises(ProcosmError, match="takes no text"):
        plain.begin(seen, Condition(text=text))
    with pytest.raises(ProcosmError, match="takes 2 tokens of 5 numbers"):
        dynamics.begin(seen, Condition(text=text[:, :1]))


def test_a_copy_goes_elsewhere_with_a_tokenizer_of_its_own(parts):
    tokenizer, dynamics = parts
    other = copy.deepcopy(dynamics).double()
    assert other.tokenizer is not tokenizer and other.tokenizer.mean.dtype == torch.float64
    assert tokenizer.mean.dtype == torch.float32 and dynamics.tokenizer is tokenizer
    assert not any("tokenizer" in name for name in dynamics.state_dict())
    seen = latents_of(tokenizer, 3)
    found, expected = (
        each.step(each.begin(seen.to(each.action_low)), torch.zeros_like(each.action_low).expand(2, 2))[1]
        for each in (other, dynamics)
    )
    torch.testing.assert_close(found.latents, expected.latents.double())
