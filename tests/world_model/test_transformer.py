import pytest
import torch
import torch.nn.functional as F

from procosm.world_model import attention
from procosm.world_model.diffusion.transformer import DiffusionTransformer, TransformerConfig
from procosm.world_model.layers import SelfAttention
from procosm.world_model.rope import angles, rotate, turns

SMALL = TransformerConfig(width=24, layers=2, heads=2, mlp_ratio=2, adaln_rank=4)


def make() -> DiffusionTransformer:
    torch.manual_seed(0)
    model = DiffusionTransformer(SMALL, (4, 8, 8), context=3, action_size=2)
    with torch.no_grad():  # wake the layers that start at zero
        for p in model.parameters():
            p.add_(torch.randn_like(p) * 0.1)
    return model


def inputs(batch=3):
    generator = torch.Generator().manual_seed(1)
    draw = lambda *shape: torch.randn(*shape, generator=generator)  # noqa: E731
    return draw(batch, 1, 4, 8, 8), draw(batch), draw(batch, 3, 4, 8, 8), draw(batch, 2)


def test_patches_round_trip_and_keep_neighbours_together():
    model = make()
    x = torch.randn(2, 4, 8, 8)
    tokens = model.patchify(x)
    assert torch.equal(model.unpatchify(tokens), x)
    assert torch.equal(tokens[0, 0].sort().values, x[0, :, :2, :2].flatten().sort().values)
    assert torch.equal(tokens[0, 5].sort().values, x[0, :, 2:4, 2:4].flatten().sort().values)


def test_every_input_reaches_the_output_and_batches_do_not_mix():
    model, args = make(), inputs()
    base = model(*args)
    for which in range(4):
        changed = [a.clone() for a in args]
        changed[which][1] += 1.0
        moved = (model(*changed) - base).abs().flatten(1).amax(1)
        assert moved[1] > 1e-4
        assert moved[[0, 2]].max() < 1e-6


def test_rotary_attention_sees_relative_positions_only():
    cos, sin = turns(angles(1, 6, 6, 12))
    q, k = torch.randn(12), torch.randn(12)
    scores = rotate(q.expand(36, 12), cos, sin) @ rotate(k.expand(36, 12), cos, sin).T
    grid = scores.view(6, 6, 6, 6)
    assert torch.allclose(grid[0, 1, 2, 4], grid[2, 0, 4, 3], atol=1e-5)  # both 2 down, 3 right
    assert torch.allclose(grid[1, 1, 0, 1], grid[5, 2, 4, 2], atol=1e-5)  # both 1 up
    assert not torch.allclose(grid[0, 0, 0, 1], grid[0, 0, 1, 0], atol=1e-3)


def test_written_out_attention_against_the_fused_kernel():
    torch.manual_seed(0)
    layer = SelfAttention(24, 2)
    with torch.no_grad():
        layer.norm_q.weight.copy_(torch.rand(12) + 0.5)
        layer.norm_k.weight.copy_(torch.rand(12) + 0.5)
    for batch, side in ((3, 4), (8, 2), (6, 2), (5, 2)):  # alone, four together, two together, alone
        tokens, (cos, sin) = side**2, turns(angles(1, side, side, 12))
        x = torch.randn(batch, tokens, 24)
        q, k, v = layer.qkv(x).view(batch, tokens, 3, 2, 12).permute(2, 0, 3, 1, 4)
        q, k = (rotate(norm(t), cos, sin) for norm, t in ((layer.norm_q, q), (layer.norm_k, k)))
        expected = layer.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, 24))
        assert torch.allclose(layer(x, cos, sin), expected, atol=1e-5)


@pytest.mark.parametrize(("batch", "parts"), [(24, 24), (25, 9), (48, 8), (11, 0)])
def test_attention_in_parts_and_its_gradient_against_the_fused_kernel(
    monkeypatch: pytest.MonkeyPatch, batch: int, parts: int
) -> None:
    """Also where the parts do not divide the batch; where they would be few it is not cut."""
    torch.manual_seed(0)
    layer, (cos, sin) = SelfAttention(24, 2).double(), turns(angles(1, 4, 4, 12).double())
    with torch.no_grad():
        layer.norm_q.weight.copy_(torch.rand(12) + 0.5)
        layer.norm_k.weight.copy_(torch.rand(12) + 0.5)
    size = -(-batch // parts) if parts else 3
    monkeypatch.setattr(attention, "PART_BYTES", size * 8 * 16 * 24 + 7)
    cut = []
    monkeypatch.setattr(attention, "_parts", lambda *sizes, real=attention._parts: cut.append(real(*sizes)) or cut[-1])
    x, grad = (torch.randn(batch, 16, 24, dtype=torch.float64) for _ in range(2))
    x.requires_grad_()
    q, k, v = layer.qkv(x).view(batch, 16, 3, 2, 12).permute(2, 0, 3, 1, 4)
    q, k = (rotate(norm(t), cos, sin) for norm, t in ((layer.norm_q, q), (layer.norm_k, k)))
    expected = layer.out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, 16, 24))
    inputs = (x, *layer.parameters())
    found = layer(x, cos, sin)
    assert torch.allclose(found, expected, atol=1e-12)
    for mine, true in zip(
        torch.autograd.grad(found, inputs, grad), torch.autograd.grad(expected, inputs, grad), strict=True
    ):
        assert torch.allclose(mine, true, atol=1e-12, rtol=1e-10)
    assert [len(each) for each in cut] == ([parts, parts] if parts else [])
    with torch.no_grad():
        assert torch.allclose(layer(x, cos, sin), expected, atol=1e-12) and len(cut) <= 2, "a dream is not cut"


def test_rotation_against_complex_numbers():
    angle, x = angles(1, 3, 5, 12), torch.randn(15, 12)
    turned = torch.complex(*x.chunk(2, -1)) * torch.polar(torch.ones_like(angle), angle)
    assert torch.allclose(rotate(x, *turns(angle)), torch.cat([turned.real, turned.imag], -1), atol=1e-6)


def test_low_rank_modulation_saves_the_parameters_it_promises():
    d, rank = 128, 32
    model = DiffusionTransformer(TransformerConfig(width=d, adaln_rank=rank), (4, 8, 8), 3, 2)
    low = sum(p.numel() for name, p in model.blocks.named_parameters() if "modulate" in name)
    full = len(model.blocks) * 2 * d * 3 * d
    assert low == len(model.blocks) * 2 * (d * rank + rank * 3 * d)
    assert low < full * 0.36
