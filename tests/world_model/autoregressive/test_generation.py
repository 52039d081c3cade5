"""Tokens that are taken: against the softmax, and with Medusa heads against one token a pass."""

import numpy as np
import pytest
import torch
from scipy import stats

from procosm.world_model.autoregressive.medusa import generate, heads_that_pay
from procosm.world_model.autoregressive.sampling import choose, draw_uniforms, probabilities
from procosm.world_model.interface import MEAN, Sampling
from tests.world_model.autoregressive.test_transformer import CONTEXT, N, restless, video

SAMPLED = Sampling(2, temperature=1.3, top_k=9, top_p=0.95)


def begun(net, batch=3, frames=CONTEXT):
    """A cache of some frames but their last token, the last of them, and what is done before the next frame."""
    tokens, actions, text = video(frames + 3, batch)
    cache = net.empty_cache(batch, text)
    net.act(cache, actions[:, :frames], torch.arange(frames).expand(batch, -1))
    net.advance(cache, tokens[:, : frames * N - 1], torch.arange(frames * N - 1).expand(batch, -1))
    cache.lengths.fill_(frames * N - 1)
    return cache, tokens[:, (frames - 1) * N : frames * N], actions[:, frames:]


def dreamed(net, heads, uniforms=None, sampling=MEAN):
    """Three frames (b, 3 n), and how many passes they took."""
    cache, before, actions = begun(net)
    frames, passes = [], 0
    for step in range(3):
        net.act(cache, actions[:, step : step + 1], torch.full((3, 1), CONTEXT + step))
        frame = generate(net, cache, before, None if uniforms is None else uniforms[step], sampling, heads)
        frames.append(frame.tokens)
        before, passes = frame.tokens, passes + frame.passes
    return torch.cat(frames, dim=1), passes


@pytest.mark.parametrize("sampling", [None, SAMPLED], ids=["greedy", "sampled"])
def test_heads_change_the_passes_and_no_token(sampling):
    net = restless()
    draws = [np.random.default_rng(seed) for seed in range(3)]
    uniforms = None if sampling is None else [draw_uniforms(draws, N, torch.device("cpu")) for _ in range(3)]
    plain, passes = dreamed(net, 0, uniforms, sampling or MEAN)
    assert passes == 3 * N and len(plain.unique()) > 2
    for heads in (1, 2, 3):
        tokens, fewer = dreamed(net, heads, uniforms, sampling or MEAN)
        assert torch.equal(tokens, plain) and fewer <= passes


def test_greedy_tokens_are_those_of_whole_passes_without_a_cache():
    net = restless()
    tokens, actions, text = video(CONTEXT + 3)
    seen = tokens[:, : CONTEXT * N]
    for _ in range(3 * N):
        frames = seen.shape[1] // N + 1  # of the token that comes next
        hidden = net(seen, actions[:, :frames], text)
        seen = torch.cat([seen, net.logits(hidden[:, -1:]).argmax(-1)], dim=1)
    assert torch.equal(dreamed(net, 3)[0], seen[:, CONTEXT * N :])


@pytest.mark.parametrize("sampled", [False, True])
def test_heads_that_know_what_comes_take_a_pass_for_all_of_them(sampled):
    """A model that holds all tokens equally probable, always, in which every head says so too."""
    net = restless()
    net.unembed.weight.zero_()
    draws = [np.random.default_rng(seed) for seed in range(3)]
    uniforms = [draw_uniforms(draws, N, torch.device("cpu")) for _ in range(3)] if sampled else None
    found = [dreamed(net, heads, uniforms, Sampling(2))[1] for heads in range(4)]
    # A frame of 6 tokens: heads + 1 in each pass but the first, which guesses that the frame before stands still. It
    # does from the second frame on where the most probable is taken, for that is always token 0.
    assert found == ([18, 12, 9, 9] if sampled else [18, 4 + 3 + 3, 3 + 2 + 2, 3 + 2 + 2])


def test_a_scene_that_stands_still_takes_the_fewest_passes_without_any_training():
    """Every token is 0, as it was in the frame before."""
    net = restless()
    net.unembed.weight.zero_()
    cache, before, actions = begun(net)
    net.act(cache, actions[:, :1], torch.full((3, 1), CONTEXT))
    assert generate(net, cache, torch.zeros_like(before), heads=3).passes == 2  # 4 tokens of 6, and 2


def test_on_a_cpu_a_large_batch_drafts_less():
    net, here = restless(), torch.device("cpu")
    assert [heads_that_pay(net, batch, here) for batch in (1, 4, 6, 7, 12, 13)] == [3, 3, 2, 1, 1, 0]
    assert heads_that_pay(net, 10_000, torch.device("cuda")) == 3


def test_what_is_sampled_has_the_frequencies_of_the_softmax():
    logits = torch.randn(12, generator=torch.Generator().manual_seed(0)) * 1.5
    uniforms = draw_uniforms([np.random.default_rng(7)], 20_000, torch.device("cpu"))[0]
    for sampling in (Sampling(2), Sampling(2, temperature=0.5), Sampling(2, top_k=4), Sampling(2, top_p=0.8)):
        found = torch.bincount(choose(logits.expand(20_000, -1), uniforms, sampling), minlength=12).numpy()
        share = np.exp(logits.double().numpy() / sampling.temperature)
        if sampling.top_k:
            share[np.argsort(share)[:-4]] = 0
        if sampling.top_p < 1:  # the fewest most probable that reach it
            order = np.argsort(-share)
            enough = int(np.searchsorted(np.cumsum(share[order]) / share.sum(), 0.8)) + 1
            share[order[enough:]] = 0
            assert 1 < enough < 12
        share /= share.sum()
        np.testing.assert_allclose(probabilities(logits, sampling).numpy(), share, atol=1e-12)
        assert (found[share == 0] == 0).all()
        assert stats.chisquare(found[share > 0], share[share > 0] * 20_000).pvalue > 0.01


def test_the_most_probable_is_what_a_cold_draw_gives():
    logits, uniforms = torch.randn(50, 9), torch.rand(50, dtype=torch.float64)
    cold = Sampling(2, temperature=1e-4)
    assert torch.equal(choose(logits, uniforms, cold), choose(logits, None, cold))
    assert torch.equal(choose(logits, uniforms, Sampling(2, top_k=1)), logits.argmax(-1))
    assert torch.equal(choose(logits, uniforms, Sampling(2, top_p=1e-9)), logits.argmax(-1))


def test_a_dream_is_the_same_alone_among_others_and_after_others_began_anew():
    """Slots of different lengths in one cache: slot 1 begins again while 0 and 2 go on."""
    net = restless()
    cache, before, actions = begun(net)

    def step(cache, before, action):
        net.act(cache, action, (cache.lengths[:, None] + 1) // N)
        return generate(net, cache, before).tokens

    first = step(cache, before, actions[:, :1])
    alone, fresh = cache.take(torch.tensor([2])), begun(net)[0].take(torch.tensor([1]))
    cache.put(torch.tensor([1]), fresh.take(torch.tensor([0])))
    last = first.clone()
    last[1] = before[1]
    assert cache.lengths.tolist() == [3 * N - 1, 2 * N - 1, 3 * N - 1]
    acted = torch.cat([actions[:1, 1:2], actions[1:2, :1], actions[2:, 1:2]])
    together = step(cache, last, acted)
    assert torch.equal(together[2:], step(alone, first[2:], actions[2:, 1:2]))
    assert torch.equal(together[1], first[1])
