"""torch's own transformer layers, converted: they read weights as well as call layers, and have a fast path."""

import copy

import pytest
import torch
from torch import nn

from procosm import sparse


def encoder_layer(**settings) -> nn.TransformerEncoderLayer:
    torch.manual_seed(0)
    return nn.TransformerEncoderLayer(32, 4, 64, 0.0, batch_first=True, **settings)


def check(model: nn.Module, *inputs: torch.Tensor, **settings: object) -> None:
    """Converted and to_dense() of it agree in training, in evaluation and under no_grad; gradients reach the blocks."""
    report = sparse.convert(model, 0.5, 16)
    assert any(name.endswith("linear1") for name in report.converted)
    dense = sparse.to_dense(model)
    for training in (True, False):
        model.train(training), dense.train(training)
        torch.testing.assert_close(model(*inputs, **settings), dense(*inputs, **settings))
        with torch.no_grad():
            torch.testing.assert_close(model(*inputs, **settings), dense(*inputs, **settings))
        with torch.inference_mode():
            torch.testing.assert_close(model(*inputs, **settings), dense(*inputs, **settings))
    model(*inputs, **settings).square().sum().backward()
    assert all(layer.values.grad.any() for layer in model.modules() if isinstance(layer, sparse.nn.Linear))


@pytest.mark.parametrize("settings", [{}, {"norm_first": True}, {"activation": "gelu"}, {"bias": False}])
def test_encoder_layer(settings: dict) -> None:
    check(encoder_layer(**settings), torch.randn(2, 7, 32))


def test_decoder_layer() -> None:
    torch.manual_seed(0)
    check(nn.TransformerDecoderLayer(32, 4, 64, 0.0, batch_first=True), torch.randn(2, 5, 32), torch.randn(2, 7, 32))


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.parametrize("nested", [True, False])
def test_encoder_with_a_padding_mask_takes_nested_tensors(nested: bool) -> None:
    mask = torch.tensor([[False] * 7, [False] * 4 + [True] * 3])
    model = nn.TransformerEncoder(encoder_layer(), 2, enable_nested_tensor=nested)
    check(model, torch.randn(2, 7, 32), src_key_padding_mask=mask)
    fresh = encoder_layer()
    sparse.convert(fresh, 0.5, 16)
    stack = nn.TransformerEncoder(fresh, 2, enable_nested_tensor=nested).eval()  # built of a layer already converted
    dense = sparse.to_dense(copy.deepcopy(stack))
    x = torch.randn(2, 7, 32)
    with torch.no_grad():
        torch.testing.assert_close(stack(x, src_key_padding_mask=mask), dense(x, src_key_padding_mask=mask))


def test_whole_transformer() -> None:
    torch.manual_seed(0)
    check(nn.Transformer(32, 4, 1, 1, 64, 0.0, batch_first=True), torch.randn(2, 7, 32), torch.randn(2, 5, 32))


def test_every_layer_shows_its_weight_in_torchs_shape() -> None:
    linear = sparse.nn.Linear(32, 64, block=16, density=0.5)
    conv = sparse.nn.Conv2d(16, 32, 3, block=16, density=0.5)
    assert torch.equal(linear.weight, linear.to_dense()) and linear.weight.requires_grad
    x = torch.randn(1, 16, 5, 5)
    torch.testing.assert_close(nn.functional.conv2d(x, conv.weight, conv.bias), conv(x))
