import dataclasses

import pytest
import torch

from procosm.world_model.data.batch import random_batch
from procosm.world_model.errors import ProcosmError
from procosm.world_model.heads import StateHead
from procosm.world_model.tokenizer.causal import CausalAttention, TemporalConv
from procosm.world_model.tokenizer.loss import STILL, TokenizerLoss, TokenizerLossConfig, curvature
from procosm.world_model.tokenizer.model import CausalTokenizer, TokenizerConfig


def make(**kwargs) -> CausalTokenizer:
    torch.manual_seed(0)
    return CausalTokenizer(TokenizerConfig(frame_height=32, frame_width=32, width=8, **kwargs))


def shake(model: torch.nn.Module) -> torch.nn.Module:
    """Random weights everywhere, so that layers which start as zero or identity take part."""
    with torch.no_grad():
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model


@pytest.mark.parametrize("compression", [1, 4, 8])
def test_shapes_of_videos_and_single_frames(compression):
    model = make(latent_size=4 if compression == 8 else 8, temporal_compression=compression)
    c, h, w = model.spec.shape
    for frames in (1, 9, 17):
        latents = model.encode(torch.randint(0, 256, (2, frames, 32, 32, 3), dtype=torch.uint8))
        assert latents.shape == (2, 1 + (frames - 1) // compression, c, h, w)
        assert model.decode(latents).shape == (2, frames, 32, 32, 3)


@pytest.mark.parametrize("compression", [1, 4, 8])
def test_a_later_frame_changes_no_earlier_latent_at_all(compression):
    model = shake(make(latent_size=4 if compression == 8 else 8, temporal_compression=compression))
    frames = torch.randint(0, 256, (1, 17, 32, 32, 3), dtype=torch.uint8)
    latents = model.encode(frames)
    for later in range(1, 17):
        changed = frames.clone()
        changed[:, later:] = 255 - changed[:, later:]
        untouched = later if compression == 1 else 1 + (later - 1) // compression
        after = model.encode(changed)
        assert torch.equal(after[:, :untouched], latents[:, :untouched])
        assert not torch.equal(after[:, untouched:], latents[:, untouched:])


@pytest.mark.parametrize("compression", [4, 8])
def test_decoding_is_causal_too(compression):
    model = shake(make(latent_size=4 if compression == 8 else 8, temporal_compression=compression))
    z = torch.randn(1, 4, 3, *model.spec.shape[1:])
    changed = z.clone()
    changed[:, :, 2] += 1
    before, after = model.to_pixels(z), model.to_pixels(changed)
    assert torch.equal(before[:, :, : 1 + compression], after[:, :, : 1 + compression])


def test_decoding_in_bfloat16_is_within_two_levels_of_float32():
    model = make()
    z = torch.randn(4, 1, *model.spec.shape)
    exact = model.decode(z).int()
    model.mixed = True
    difference = (model.decode(z).int() - exact).abs()
    assert 0 < difference.max() <= 2
    model.mixed = False
    assert torch.equal(model.decode(z).int(), exact)


def test_temporal_layers_against_an_explicit_sum():
    torch.manual_seed(0)
    conv = shake(TemporalConv(3, kernel=3))
    x = torch.randn(2, 3, 5, 1, 1)
    padded = torch.cat([x[:, :, :1], x[:, :, :1], x], dim=2)[..., 0, 0]
    for t in range(5):
        expected = torch.einsum("oik,bik->bo", conv.conv.weight, padded[:, :, t : t + 3]) + conv.conv.bias
        assert torch.allclose(conv(x)[:, :, t, 0, 0], expected, atol=1e-6)


def test_attention_over_time_of_one_frame_is_its_value():
    """With one frame, the softmax has one entry: time attention reduces to its value projection."""
    torch.manual_seed(0)
    layer = shake(CausalAttention(8, temporal=True))
    with torch.no_grad():
        layer.space_out.weight.zero_()
        layer.space_out.bias.zero_()
    x = torch.randn(1, 8, 1, 2, 2)
    tokens = layer.time_norm(x)[0, :, 0].flatten(1).T
    expected = layer.time_out(layer.time_qkv(tokens)[:, 16:]).T.reshape(1, 8, 1, 2, 2) + x
    assert torch.allclose(layer(x), expected, atol=1e-5)


def test_fitted_latents_have_unit_scale():
    model = shake(make())
    frames = torch.randint(0, 256, (64, 1, 32, 32, 3), dtype=torch.uint8)
    with torch.no_grad():
        model.fit_latents(model.to_latents(model.pixels(frames)))
    z = model.encode(frames)
    assert torch.allclose(z.mean((0, 1, 3, 4)), torch.zeros(4), atol=1e-4)
    assert torch.allclose(z.std((0, 1, 3, 4)), torch.ones(4), atol=1e-3)


def test_bad_shapes_are_named():
    with pytest.raises(ProcosmError, match="power of 2"):
        TokenizerConfig(frame_height=48)
    with pytest.raises(ProcosmError, match="temporal_compression"):
        TokenizerConfig(temporal_compression=3)
    with pytest.raises(ProcosmError, match="32, 32, 3"):
        make().encode(torch.zeros(1, 1, 64, 64, 3, dtype=torch.uint8))


@pytest.mark.parametrize("times, expected", [((0, 1, 2, 3), 0.0), ((5, 5, 5, 5), 0.0), ((0, 1, 0, 1), 4.0)])
def test_curvature_of_even_motion_of_none_and_of_back_and_forth(times, expected):
    torch.manual_seed(0)
    step = torch.randn(7, 1, 4, 8, 8)
    z = torch.randn(7, 1, 4, 8, 8) + step * torch.tensor(times).view(1, -1, 1, 1, 1)
    assert curvature(z).tolist() == pytest.approx([expected] * 7, abs=1e-3)


@pytest.mark.parametrize("size", [1e-1, 1.0, 1e2])
def test_curvature_of_a_random_walk_is_two_at_any_pace_above_still(size):
    torch.manual_seed(0)
    z = size * torch.randn(16, 12, 4, 8, 8).cumsum(1)
    assert curvature(z).mean().item() == pytest.approx(2 * size**2 / (size**2 + STILL), rel=0.02)


def test_latents_are_straightened_where_the_state_moves_evenly_and_nowhere_else():
    model, config = make(), TokenizerLossConfig()
    loss = TokenizerLoss(config, model, StateHead(3, model.spec.shape, 2))
    batch = random_batch(4, 3, 0, 1, {"state": 2}, frame=(32, 32))
    even = torch.arange(3.0).view(1, 3, 1).expand(4, 3, 2)
    pushed = torch.tensor([0.0, 1.0, 0.0]).view(1, 3, 1).expand(4, 3, 2)
    for states, bends in ((even, True), (pushed, False)):
        total, metrics = loss(dataclasses.replace(batch, signals={"state": states}), torch.Generator())
        assert (metrics["bend"] > 0.1) == bends and (bends or metrics["bend"] == 0)
        parts = metrics["picture"] + config.state_weight * metrics["state"] + config.straight_weight * metrics["bend"]
        torch.testing.assert_close(total, parts)


def test_the_same_latents_are_decoded_alike_however_they_lie_in_memory():
    torch.manual_seed(4)
    model = CausalTokenizer(TokenizerConfig(width=8, blocks=0, latent_size=4)).requires_grad_(False)
    for parameter in model.parameters():
        parameter.add_(0.05 * torch.randn_like(parameter))
    latents = torch.randn(32, 1, 4, 4, 4)
    channels_last = latents[:, 0].to(memory_format=torch.channels_last)[:, None]
    assert torch.equal(model.decode(latents), model.decode(channels_last))
