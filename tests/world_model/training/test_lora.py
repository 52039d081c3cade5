"""Low-rank adapters change nothing until they are trained, and merging them changes nothing after that."""

import pytest
import torch
from torch import nn

from procosm import sparse
from procosm.world_model.errors import ProcosmError
from procosm.world_model.training.lora import LowRank, adapt, merge


def layers() -> dict[str, nn.Module]:
    """Dense, and block-sparse with sides that the block does not divide."""
    generator = torch.Generator().manual_seed(3)
    thin = sparse.nn.Linear(40, 56, block=16, density=0.4, generator=generator)
    return {"dense": nn.Linear(40, 56), "sparse": thin}


@pytest.fixture(params=["dense", "sparse"])
def layer(request) -> nn.Module:
    torch.manual_seed(1)
    return layers()[request.param].double()


def moved(layer: nn.Module) -> LowRank:
    """An adapter as training leaves it: neither factor is zero."""
    adapted = LowRank(layer, 3, 6.0)
    with torch.no_grad():
        adapted.up.normal_(generator=torch.Generator().manual_seed(2))
    return adapted


def test_at_first_the_layer_is_what_it_was_bit_for_bit(layer):
    x = torch.randn(7, 40, dtype=torch.double)
    before = layer(x)
    assert torch.equal(LowRank(layer, 3, 6.0)(x), before)


def test_it_computes_what_the_sum_of_the_matrices_does(layer):
    x, weight = torch.randn(7, 40, dtype=torch.double), layer.weight.detach().clone()
    adapted = moved(layer)
    update = 2.0 * adapted.up.detach() @ adapted.down.detach()
    if isinstance(layer, sparse.nn.Linear):  # at the live blocks alone
        there = layer.kept().repeat_interleave(16, 0).repeat_interleave(16, 1)[:56, :40]
        update = update * there
        assert there.any() and not there.all()
    assert torch.allclose(adapted(x), x @ (weight + update).T + layer.bias, atol=1e-12)


def test_merged_it_computes_the_same_and_is_as_sparse_as_before(layer):
    x = torch.randn(7, 40, dtype=torch.double)
    model = nn.Sequential(moved(layer))
    before, kept = model(x), layer.kept().clone() if isinstance(layer, sparse.nn.Linear) else None
    factors = merge(model)
    assert set(factors) == {"0.down", "0.up"} and model[0] is layer
    assert torch.allclose(model(x), before, atol=1e-12)
    assert kept is None or torch.equal(layer.kept(), kept)


def test_only_the_factors_are_trained(layer):
    adapted = moved(layer)
    adapted(torch.randn(5, 40, dtype=torch.double)).square().sum().backward()
    assert {name for name, each in adapted.named_parameters() if each.grad is not None} == {"down", "up"}


def test_gradients_of_a_block_sparse_layers_factors_are_those_of_its_dense_twin():
    layer = layers()["sparse"].double()
    x, adapted = torch.randn(5, 40, dtype=torch.double), moved(layer)
    adapted(x).square().sum().backward()
    down, up = adapted.down.detach().requires_grad_(), adapted.up.detach().requires_grad_()
    there = layer.kept().repeat_interleave(16, 0).repeat_interleave(16, 1)[:56, :40]
    (x @ (layer.weight.detach() + 2.0 * (up @ down) * there).T + layer.bias.detach()).square().sum().backward()
    assert torch.allclose(adapted.down.grad, down.grad, atol=1e-9)
    assert torch.allclose(adapted.up.grad, up.grad, atol=1e-9)


def test_layers_are_adapted_by_name_and_too_high_a_rank_is_refused():
    model = nn.ModuleDict({"head": nn.Linear(8, 8), "body": nn.ModuleDict(layers())})
    with pytest.raises(ProcosmError, match="--lora-rank 40: the narrowest layer to adapt has 40 channels"):
        adapt(model, 40, 1.0, ["head*"])
    assert adapt(model, 2, 1.0, ["head*"]) == ["body.dense", "body.sparse"]
    assert isinstance(model["head"], nn.Linear)
