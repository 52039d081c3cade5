"""Masks: the reference generator word by word, and those of trained checkpoints."""

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from procosm.sparse.accelerator.masks import bernoulli, checkpoint_masks, layer_mask, match, problem_mask
from procosm.sparse.accelerator.problem import Layer, Problem, Shape
from procosm.sparse.accelerator.workloads.trace import trace
from procosm.sparse.errors import SparseError
from procosm.world_model.diffusion.rehearsal import rehearse
from procosm.world_model.diffusion.transformer import DiffusionTransformer, TransformerConfig


@pytest.mark.parametrize("density", [0.1, 0.2, 0.5, 1 / 3, 0.999])
def test_the_reference_generator(density):
    """The formula of accelerator.md, written out, on more elements than one chunk holds."""
    size = (1 << 22) + 1000
    bits = np.random.MT19937()
    bits._legacy_seeding(0)
    words = bits.random_raw(2 * size).astype(float)
    expected = (words[0::2] + words[1::2] * 2**32) / 2**64 < density
    np.testing.assert_array_equal(bernoulli((size,), density), expected)


def test_seeds_and_bounds():
    assert (bernoulli((1000,), 0.5, 1) != bernoulli((1000,), 0.5, 2)).any()
    assert bernoulli((5, 3), 1.0).all()
    for density in (0.0, -1.0, 1.1):
        with pytest.raises(SparseError, match="density"):
            bernoulli((4,), density)


def test_padded_positions_are_zero():
    problem = Problem(Shape.FORWARD, (3, 3, 4, 4, 6, 12, 8), work=(3, 3, 4, 4, 5, 12, 8))
    mask = problem_mask(problem, 0.5)
    assert mask.shape == (3, 3, 6, 12) and not mask[:, :, 5].any()
    np.testing.assert_array_equal(mask[:, :, :5], bernoulli((3, 3, 5, 12), 0.5))


def test_checkpoints_of_both_kinds(tmp_path):
    rows, cols = torch.tensor([0, 2], dtype=torch.int32), torch.tensor([1, 0], dtype=torch.int32)
    dense = torch.randn(6, 4, 3, 3) * (torch.rand(6, 4, 3, 3) < 0.3)
    tensors = {
        "net.fc.values": torch.randn(2, 4, 4), "net.fc.rows": rows, "net.fc.cols": cols,
        "net.fc.shape": torch.tensor([12, 8]), "net.fc.bias": torch.zeros(12), "conv.weight": dense,
    }  # fmt: skip
    save_file(tensors, tmp_path / "model.safetensors")
    masks = checkpoint_masks(tmp_path)
    assert set(masks) == {"net.fc", "conv"}
    expected = np.zeros((12, 8), bool)
    expected[0:4, 4:8] = expected[8:12, 0:4] = True
    np.testing.assert_array_equal(masks["net.fc"], expected)
    layers = (Layer("fc", 1, 1, 8, 12), Layer("stem", 8, 8, 4, 6, 3, 3, (1, 1)))
    found = match(layers, masks)
    np.testing.assert_array_equal(found["fc"], expected.T[None, None])
    np.testing.assert_array_equal(found["stem"], (dense != 0).numpy().transpose(2, 3, 1, 0))
    del tensors["net.fc.shape"]
    save_file(tensors, tmp_path / "model.safetensors", metadata={"net.fc.shape": "12,8"})
    np.testing.assert_array_equal(checkpoint_masks(tmp_path / "model.safetensors")["net.fc"], expected)


def test_a_convolution_stored_as_blocks():
    """sparse.nn orders a convolution's fan-in by kernel position, then channel."""
    layer = Layer("conv", 8, 8, 5, 4, 3, 2)
    weight = np.random.default_rng(0).random((4, 3, 2, 5)) < 0.5
    ordered = layer_mask(layer, weight.reshape(4, 30))
    assert ordered.shape == (3, 2, 5, 4)
    assert ordered[2, 1, 3, 0] == weight[0, 2, 1, 3]


def test_bad_checkpoints_are_named(tmp_path):
    with pytest.raises(SparseError, match=r"no \*\.safetensors"):
        checkpoint_masks(tmp_path)
    (tmp_path / "x.safetensors").write_bytes(b"nothing")
    with pytest.raises(SparseError, match="not a readable"):
        checkpoint_masks(tmp_path)
    layer = Layer("fc", 1, 1, 8, 12)
    with pytest.raises(SparseError, match="no weight of the run"):
        match((layer,), {"other": np.ones((3, 3), bool)})
    with pytest.raises(SparseError, match="no weight left"):
        layer_mask(layer, np.zeros((12, 8), bool))
    block = {"a.values": torch.zeros(1, 4, 4), "a.rows": torch.tensor([5]), "a.cols": torch.tensor([0])}
    save_file(block | {"a.shape": torch.tensor([8, 8])}, tmp_path / "x.safetensors")
    with pytest.raises(SparseError, match="outside its 2x2 grid"):
        checkpoint_masks(tmp_path)
    save_file(block, tmp_path / "x.safetensors")
    with pytest.raises(SparseError, match="without its"):
        checkpoint_masks(tmp_path)


def test_masks_of_a_block_sparse_world_model(tmp_path):
    """What `procosm train --density` stores fits the layers of the same transformer, traced dense."""
    config = TransformerConfig(width=32, layers=1, heads=2)
    dynamics = rehearse(config, 0.5, block=16, batch=2)[0].dynamics
    with torch.no_grad():
        for parameter in dynamics.parameters():
            if not parameter.any():
                parameter.fill_(1.0)  # layers that begin at zero have moved in a trained model
    save_file({key: value.contiguous() for key, value in dynamics.state_dict().items()}, tmp_path / "d.safetensors")
    x = torch.zeros(1, 4, 4, 8, 8)
    told = 3 * 6 + 2  # six actions at each of three latents, and whether the older two are known
    inputs = (x[:, :1], torch.zeros(1), x[:, 1:], torch.zeros(1, told))
    work = trace(DiffusionTransformer(config, (4, 8, 8), 3, told), inputs, "dit")
    found = match(work.layers, checkpoint_masks(tmp_path))
    assert found.keys() == {layer.name for layer in work.layers}
    shares = {name: float(mask.mean()) for name, mask in found.items()}
    assert {name for name, share in shares.items() if share < 1} == {
        f"blocks.0.{name}" for name in ("attention.qkv", "attention.out", "mlp.0", "mlp.2")
    }
    dense = dynamics.net.blocks[0].mlp[0].kept().repeat_interleave(16, 0).repeat_interleave(16, 1)
    np.testing.assert_array_equal(found["blocks.0.mlp.0"][0, 0].T, dense.numpy())
