"""W0 from a counter: published Philox vectors, and the distributions against SciPy."""

import numpy as np
import pytest
import scipy.stats
import torch
from torch import nn

from procosm.sparse.generator import Initial, as_found, philox, stream_of, words
from procosm.sparse.normal import quantile

# Random123's kat_vectors, philox4x32 10: counter, key, result.
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]


def hexes(text: str) -> list[int]:
    return [int(word, 16) for word in text.split()]


@pytest.mark.parametrize(("counter", "key", "result"), KNOWN)
def test_philox_gives_the_published_vectors(counter, key, result):
    c = tuple(torch.tensor([word]) for word in hexes(counter))
    assert philox(c, tuple(hexes(key)))[0].tolist() == hexes(result)


def philox_in_python(counter: list[int], key: list[int]) -> list[int]:
    """The definition with unbounded integers."""
    for _ in range(10):
        high0, low0 = divmod(counter[0] * 0xD2511F53, 2**32)
        high1, low1 = divmod(counter[2] * 0xCD9E8D57, 2**32)
        counter = [high1 ^ counter[1] ^ key[0], low1, high0 ^ counter[3] ^ key[1], low0]
        key = [(key[0] + 0x9E3779B9) % 2**32, (key[1] + 0xBB67AE85) % 2**32]
    return counter


def test_word_i_is_lane_i_of_its_counter_whatever_the_count():
    seed, stream = 0xFEDCBA9876543210, 0x8F3A11D402C96B77
    drawn = words(seed, stream, 11)
    expected = [
        philox_in_python([i // 4, 0, stream % 2**32, stream >> 32], [seed % 2**32, seed >> 32])[i % 4]
        for i in range(11)
    ]
    assert drawn.tolist() == expected
    assert torch.equal(words(seed, stream, 7), drawn[:7])


def test_streams_and_seeds_are_unrelated():
    a, b, c = (words(*pair, 20_000).double() for pair in ((1, 2), (1, 3), (2, 2)))
    for x, y in ((a, b), (a, c), (b, c)):
        assert abs(float(torch.corrcoef(torch.stack([x, y]))[0, 1])) < 4 / 20_000**0.5


def test_stream_of_a_name_is_fixed_for_ever():
    assert stream_of("blocks.0.weight") == 0xF26F896FBCF2EF0B
    assert stream_of("blocks.0.weight") != stream_of("blocks.1.weight")


def test_the_normal_quantile_is_scipys():
    p = torch.cat([torch.logspace(-9.6, -1, 400, dtype=torch.float64), torch.linspace(0.075, 0.925, 999).double()])
    p = torch.cat([p, 1 - p[:400]])
    np.testing.assert_allclose(quantile(p).numpy(), scipy.stats.norm.ppf(p.numpy()), rtol=3e-7, atol=1e-9)


@pytest.mark.parametrize(("kind", "law"), [("uniform", "uniform"), ("normal", "norm")])
def test_weights_follow_their_law(kind, law):
    std = 0.05
    w0 = Initial((300, 200), kind, std, seed=3, stream=9).tensor().double().view(-1).numpy()
    shape = (-std * 3**0.5, 2 * std * 3**0.5) if kind == "uniform" else (0, std)
    assert scipy.stats.kstest(w0, law, shape).pvalue > 0.01
    assert w0.std() == pytest.approx(std, rel=0.02)


def test_weights_do_not_move_between_releases():
    """The bits themselves: a checkpoint stores the seed only, so a change here would break it."""
    bits = {
        kind: Initial((4,), kind, 1.0, seed=7, stream=1).tensor().view(torch.int32).tolist()
        for kind in ("uniform", "normal")
    }
    assert bits == {
        "uniform": [-1131625758, -1080980001, -1087936239, -1082942338],
        "normal": [-1135888700, -1083014093, -1090774385, -1086250375],
    }


def test_recipes_as_found_keep_scales_and_constants():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 128), nn.LayerNorm(128), nn.Linear(128, 128))
    nn.init.zeros_(model[2].weight)
    nn.init.normal_(model[0].weight, std=0.02)
    recipes = {name: as_found(name, parameter, seed=5) for name, parameter in model.named_parameters()}
    assert recipes["0.weight"].tensor().std() == pytest.approx(0.02, rel=0.03)
    assert (recipes["1.weight"].kind, recipes["1.weight"].scale) == ("constant", 1.0)
    assert not recipes["2.weight"].tensor().any()
    assert not torch.equal(recipes["0.bias"].tensor()[:8], recipes["2.bias"].tensor()[:8])
