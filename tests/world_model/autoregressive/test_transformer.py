"""The autoregressive transformer against slow references, whole videos and one token after another."""

import math

import numpy as np
import pytest
import torch

from procosm.world_model.autoregressive.transformer import AutoregressiveTransformer, TransformerConfig
from procosm.world_model.errors import ProcosmError
from procosm.world_model.rope import frequencies, yarn, yarn_temperature

CONFIG = TransformerConfig(
    width=24, layers=3, heads=4, kv_heads=2, hidden=20, medusa_heads=3, text_tokens=2, text_size=5
)
GRID, VOCABULARY, CONTEXT, ACTIONS = (2, 3), 11, 2, 2
N = GRID[0] * GRID[1]


def restless(config: TransformerConfig = CONFIG, context: int = CONTEXT, seed: int = 0) -> AutoregressiveTransformer:
    """Double precision, no weight zero."""
    torch.manual_seed(seed)
    net = AutoregressiveTransformer(config, GRID, VOCABULARY, context, ACTIONS).double()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return net.requires_grad_(False).eval()


def video(frames: int, batch: int = 3, seed: int = 1) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens (b, t n), actions (b, t, a) of which some are unknown, and a text."""
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randint(VOCABULARY, (batch, frames * N), generator=generator)
    actions = torch.rand(batch, frames, ACTIONS, generator=generator, dtype=torch.float64) * 2 - 1
    actions[:, 0] = torch.nan
    return tokens, actions, torch.randn(batch, 2, 5, generator=generator, dtype=torch.float64)


def rms(x: np.ndarray, gain: torch.Tensor) -> np.ndarray:
    return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * gain.numpy()


def turned(x: np.ndarray, angles: np.ndarray) -> np.ndarray:
    """Pair i of channels (i, i + half) turned by angles[i]."""
    half = len(x) // 2
    z = (x[:half] + 1j * x[half:]) * np.exp(1j * angles)
    return np.concatenate([z.real, z.imag])


def slow(net: AutoregressiveTransformer, tokens, actions, text) -> np.ndarray:
    """(t n, d), one video: every head, query and key by itself, from the equations."""
    c, hd, window = net.config, net.config.head_dim, net.context

    def w(layer):
        return layer.weight.numpy()

    given = [
        net.no_action.numpy() if np.isnan(a).any() else net.action(torch.from_numpy(a)).numpy() for a in actions.numpy()
    ]
    said = [w(net.text) @ line for line in text.numpy()]
    dim_space = hd // 6 * 2
    f_t, f_s, f_whole = (frequencies(d).numpy().astype(float) for d in (hd - 2 * dim_space, dim_space, hd))

    def angle(p):
        row, column = divmod(p % N, GRID[1])
        return np.concatenate([p // N * f_t, row * f_s, column * f_s])

    x = w(net.embed)[tokens.numpy()] + net.place.numpy()[np.arange(len(tokens)) % N]
    for block in net.blocks:

        def attended(layer, h, sources, angles, query_angle, visible):
            out = np.zeros(c.width)
            for head in range(c.heads):
                group = head // (c.heads // c.kv_heads)
                rows = slice(group * hd, (group + 1) * hd)
                q = turned(rms(w(layer.q)[head * hd : (head + 1) * hd] @ h, layer.norm_q.weight), query_angle)
                scores, values = [], []
                for source, at in zip(sources, angles, strict=True):
                    if visible(source[0]):
                        kv = w(layer.kv) @ source[1]
                        key = turned(rms(kv[: c.kv_heads * hd][rows], layer.norm_k.weight), at)
                        scores.append(q @ key / math.sqrt(hd))
                        values.append(kv[c.kv_heads * hd :][rows])
                weights = np.exp(np.array(scores) - max(scores))
                out[head * hd : (head + 1) * hd] = weights @ np.array(values) / weights.sum()
            return w(layer.out) @ out

        y = rms(x, block.norm_self.weight)
        added = []
        for p in range(len(tokens)):
            g = (p + 1) // N
            keys = [(s, y[s]) for s in range(len(tokens))]
            added.append(
                attended(block.attention, y[p], keys, [angle(s) for s, _ in keys], angle(p),
                         lambda s, p=p, g=g: s <= p and g - window <= s // N)
            )  # fmt: skip
        x = x + np.array(added)
        y = rms(x, block.norm_cross.weight)
        added = []
        for p in range(len(tokens)):
            g = (p + 1) // N
            keys = [*enumerate(given), *((None, line) for line in said)]
            added.append(
                attended(block.cross, y[p], keys, [(s or 0) * f_whole for s, _ in keys], g * f_whole,
                         lambda s, g=g: s is None or g - window <= s <= g)
            )  # fmt: skip
        x = x + np.array(added)
        y = rms(x, block.norm_mlp.weight)
        gate, up = np.split(y @ w(block.mlp.gate_and_up).T, 2, axis=1)
        x = x + (gate / (1 + np.exp(-gate)) * up) @ w(block.mlp.down).T
    return rms(x, net.norm.weight)


def test_the_blocks_are_the_equations():
    net = restless()
    tokens, actions, text = video(4)
    fast = net(tokens, actions, text)
    for i in range(2):
        np.testing.assert_allclose(fast[i].numpy(), slow(net, tokens[i], actions[i], text[i]), atol=1e-10)


def test_no_text_is_a_text_of_zeros_and_a_text_counts():
    net = restless()
    tokens, actions, text = video(2)
    assert torch.equal(net(tokens, actions), net(tokens, actions, torch.zeros_like(text)))
    assert not torch.allclose(net(tokens, actions), net(tokens, actions, text), atol=1e-3)


@pytest.mark.parametrize("cuts", [(1,), (5, 1, 2), (7, 6)])
def test_a_cache_gives_what_one_pass_over_everything_gives(cuts):
    """Five frames through a window of two, in pieces of any size: the cache goes round more than once."""
    net = restless()
    tokens, actions, text = video(6)
    whole, cache, at, piece = net(tokens, actions, text), net.empty_cache(3, text), 0, 0
    net.act(cache, actions[:, :1], torch.zeros(3, 1, dtype=torch.int64))
    told = 1
    while at < tokens.shape[1] - 1:
        size = min(cuts[piece % len(cuts)], N - (at + 1) % N, tokens.shape[1] - 1 - at)  # to the end of a frame
        if (at + 1) // N == told:
            net.act(cache, actions[:, told : told + 1], torch.full((3, 1), told))
            told += 1
        positions = torch.arange(at, at + size).expand(3, -1)
        hidden = net.advance(cache, tokens[:, at : at + size], positions)
        torch.testing.assert_close(hidden, whole[:, at : at + size], atol=1e-10, rtol=0)
        at, piece = at + size, piece + 1
    assert told == 6


def test_the_future_and_what_left_the_window_do_not_count():
    net = restless(TransformerConfig(width=24, layers=1, heads=4, kv_heads=4, hidden=20, medusa_heads=0))
    tokens, actions, _ = video(5)
    base = net(tokens, actions)
    later, earlier, acted = tokens.clone(), tokens.clone(), actions.clone()
    later[:, 3 * N :] = (later[:, 3 * N :] + 1) % VOCABULARY
    assert torch.equal(net(later, actions)[:, : 3 * N], base[:, : 3 * N])
    earlier[:, :N] = (earlier[:, :N] + 1) % VOCABULARY  # frame 0 is out of sight from frame 3 on; one block looks once
    changed = net(earlier, actions) != base
    assert changed[:, : 3 * N - 1].any(-1).all() and not changed[:, 3 * N - 1 :].any()
    acted[:, 2] += 0.1
    changed = (net(tokens, acted) != base).any(-1)
    assert not changed[:, : 2 * N - 1].any() and changed[:, 2 * N - 1 : 5 * N - 1].all() and not changed[:, -1].any()


def test_only_the_distance_in_time_counts():
    """The same window seen as frames 0 to 2 and as frames 1000 to 1002."""
    net = restless()
    tokens, actions, _ = video(3)
    found = []
    for first in (0, 1000):
        cache = net.empty_cache(3)
        net.act(cache, actions, torch.arange(first, first + 3).expand(3, -1))
        found.append(net.advance(cache, tokens[:, :-1], torch.arange(first * N, (first + 3) * N - 1).expand(3, -1)))
    torch.testing.assert_close(*found, atol=1e-9, rtol=0)


def test_yarn_at_scale_1_is_rope_and_beyond_it_keeps_what_is_fast():
    plain = frequencies(16)
    assert torch.equal(yarn(plain, 1.0, 8.0), plain) and yarn_temperature(1.0) == 1.0
    stretched = yarn(plain, 4.0, 4096.0)
    turns = 4096 * plain / (2 * math.pi)
    assert torch.equal(stretched[turns >= 32], plain[turns >= 32]) and (turns >= 32).any()
    assert torch.allclose(stretched[turns <= 1], plain[turns <= 1] / 4) and (turns <= 1).any()
    between = (turns > 1) & (turns < 32)
    assert (stretched[between] < plain[between]).all() and (stretched[between] > plain[between] / 4).all()
    assert yarn_temperature(4.0) == pytest.approx((0.1 * math.log(4) + 1) ** 2)


def test_a_window_stretched_by_yarn_turns_as_slowly_as_it_is_longer():
    """With pairs that turn less than once in the window, frame 2 k at scale 2 has the angle of frame k at scale 1."""
    one, two = restless(context=2), restless(TransformerConfig(**(vars(CONFIG) | {"yarn_scale": 2.0})), context=4)
    for frame in range(4):
        plain, slowed = (net.frame_turn(torch.tensor([[at]]))[0] for net, at in ((one, frame), (two, 2 * frame)))
        torch.testing.assert_close(plain, slowed, atol=1e-9, rtol=0)


@pytest.mark.parametrize("wrong", [{"width": 20, "heads": 4}, {"heads": 4, "kv_heads": 3}])
def test_sizes_that_do_not_fit_are_refused(wrong):
    with pytest.raises(ProcosmError, match="heads"):
        TransformerConfig(**{"width": 24, "heads": 4} | wrong)
