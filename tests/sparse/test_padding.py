"""Layers whose sizes the block does not divide, against torch's dense layers with the same weights."""

import pytest
import torch

from procosm import sparse
from procosm.sparse import matrix
from procosm.sparse.baselines import make
from procosm.sparse.errors import SparseError


@pytest.mark.parametrize("mode", ["sparse", "dense", "auto"])
@pytest.mark.parametrize("sizes", [(50, 80), (48, 70), (33, 47), (100, 17)])
def test_linear_is_the_dense_layer_of_its_weight(sizes: tuple[int, int], mode: str) -> None:
    torch.manual_seed(0)
    layer = sparse.nn.Linear(*sizes, block=16, density=0.5, mode=mode).double()
    x = torch.randn(2, 5, sizes[0], dtype=torch.float64, requires_grad=True)
    weight = layer.to_dense().detach().requires_grad_()
    assert weight.shape == (sizes[1], sizes[0])
    expected = torch.nn.functional.linear(x, weight, layer.bias)
    upstream = torch.randn_like(expected)
    torch.testing.assert_close(layer(x), expected)
    mine = torch.autograd.grad(layer(x), (x, layer.bias, layer.values), upstream)
    theirs = torch.autograd.grad(expected, (x, layer.bias, weight), upstream)
    torch.testing.assert_close(mine[:2], theirs[:2])
    block_gradients = matrix.from_dense(layer._pad(theirs[2]), layer.kept(), 16, layer.capacity).values
    torch.testing.assert_close(mine[2], block_gradients)
    layer.arm()
    layer(x).backward(upstream)
    armed = layer.take_norms()
    torch.testing.assert_close(armed, layer.probe(x.detach(), upstream))
    tiles = layer._pad(theirs[2]).unflatten(0, (-1, 16)).unflatten(2, (-1, 16)).square().sum((1, 3)).sqrt()
    torch.testing.assert_close(armed, (tiles * ~layer.kept()).float())
    with pytest.raises(SparseError, match=r"takes \(\.\.\., "):
        layer(torch.ones(2, sizes[0] + 1, dtype=torch.float64))


@pytest.mark.parametrize("keep", ["largest", "balanced"])
def test_convert_pads_and_at_density_one_changes_nothing(keep: str) -> None:
    torch.manual_seed(0)
    dense = torch.nn.Sequential(torch.nn.Linear(100, 84), torch.nn.ReLU(), torch.nn.Linear(84, 50))
    conv = torch.nn.Sequential(torch.nn.Conv2d(20, 33, 3, padding=1))
    x, image = torch.randn(3, 100), torch.randn(2, 20, 5, 5)
    before = dense(x), conv(image)
    assert sparse.convert(dense, 1.0, 16, keep=keep).converted == ("0", "2")
    assert sparse.convert(conv, 1.0, 16, keep=keep).converted == ("0",)
    torch.testing.assert_close((dense(x), conv(image)), before)
    torch.testing.assert_close((sparse.to_dense(dense)(x), sparse.to_dense(conv)(image)), before)
    report = sparse.convert(torch.nn.Sequential(torch.nn.Linear(100, 10)), 1.0, 16)
    assert "leave it dense" in report.skipped["0"]  # shorter than a block


@pytest.mark.parametrize("optimizer", [torch.optim.AdamW, sparse.optim.AdamW])
def test_padding_stays_zero_through_training_and_exchanges(optimizer) -> None:
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(100, 84), torch.nn.GELU(), torch.nn.Linear(84, 50))
    sparse.convert(model, 0.3, 16, headroom=1.3)
    trained = optimizer(model.parameters(), 0.01)
    method = make("rigl", model, trained, density=0.3, update_every=2)
    for step in range(7):
        method.before_step(step)
        x = torch.randn(16, 100)
        (model(x) - x[:, :50]).square().mean().backward()
        trained.step()
        method.after_step(step)
        trained.zero_grad()
    for layer in (model[0], model[2]):
        whole = matrix.to_dense(layer.as_matrix()).detach()
        assert not whole[layer.shape[0] :].any() and not whole[:, layer.shape[1] :].any()
    again = torch.nn.Sequential(torch.nn.Linear(100, 84), torch.nn.GELU(), torch.nn.Linear(84, 50))
    sparse.convert(again, 0.3, 16, headroom=1.3)
    again.load_state_dict(model.state_dict())
    assert torch.equal(again(x), model(x))
