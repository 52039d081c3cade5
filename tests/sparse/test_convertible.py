"""convert() keeps what a user froze, tied, hooked, pruned or wrote on a layer, or leaves it dense and says why."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from procosm import sparse
from procosm.sparse.errors import SparseError


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(32, 64), nn.ReLU(), nn.Linear(64, 32))


def test_frozen_parameters_stay_frozen_one_by_one() -> None:
    for weight, bias in ((False, False), (False, True), (True, False)):
        model = net()
        model[0].weight.requires_grad_(weight)
        model[0].bias.requires_grad_(bias)
        assert sparse.convert(model, 0.5, 16).converted == ("0", "2")
        before = copy.deepcopy(model.state_dict())
        assert (model[0].values.requires_grad, model[0].bias.requires_grad) == (weight, bias)
        optimizer = torch.optim.SGD(model.parameters(), 0.1, weight_decay=0.1)
        model(torch.ones(2, 32)).square().sum().backward()
        optimizer.step()
        assert torch.equal(model[0].values, before["0.values"]) == (not weight)
        assert torch.equal(model[0].bias, before["0.bias"]) == (not bias)
        dense = sparse.to_dense(model)
        assert (dense[0].weight.requires_grad, dense[0].bias.requires_grad) == (weight, bias)


class Tied(nn.Module):
    """Embedding and head share a weight; so do two linear layers, and one is a view of a third's memory."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(32, 64), nn.Linear(64, 32, bias=False)
        self.head.weight = self.embedding.weight
        self.a, self.b, self.c, self.free = (nn.Linear(64, 64) for _ in range(4))
        self.b.weight = self.a.weight
        self.c.weight.data = self.a.weight.data.t()
        self.biased, self.gain = nn.Linear(64, 64), nn.Linear(64, 64)
        self.gain.bias = self.biased.bias
        self.whole = nn.Parameter(torch.randn(128, 64))
        self.part, self.other = nn.Linear(64, 64), nn.Linear(64, 64)
        self.part.weight = nn.Parameter(self.whole.data[64:])


def test_tied_parameters_stay_tied_and_the_report_names_the_partner() -> None:
    model = Tied()
    sides = torch.randn(2, 64, 64)  # neighbours in memory that share nothing
    model.free.weight.data, model.other.weight.data = sides[0], sides[1]
    report = sparse.convert(model, 0.5, 16)
    assert report.converted == ("free", "other")
    assert model.head.weight is model.embedding.weight and model.b.weight is model.a.weight
    assert "tied to embedding.weight" in report.skipped["head"]
    assert all("tied to" in report.skipped[name] for name in ("a", "b", "c", "biased", "gain", "part"))


HOOKS: dict[str, Callable[[nn.Linear], object]] = {
    "forward": lambda m: m.register_forward_hook(lambda *_: None),
    "forward with keywords": lambda m: m.register_forward_hook(lambda *_: None, with_kwargs=True),
    "forward pre": lambda m: m.register_forward_pre_hook(lambda *_: None),
    "full backward": lambda m: m.register_full_backward_hook(lambda *_: None),
    "full backward pre": lambda m: m.register_full_backward_pre_hook(lambda *_: None),
    "state dict": lambda m: m.register_state_dict_post_hook(lambda *_: None),
    "state dict pre": lambda m: m.register_state_dict_pre_hook(lambda *_: None),
    "load pre": lambda m: m.register_load_state_dict_pre_hook(lambda *_: None),
    "load post": lambda m: m.register_load_state_dict_post_hook(lambda *_: None),
    "weight": lambda m: m.weight.register_hook(lambda g: g),
    "bias": lambda m: m.bias.register_post_accumulate_grad_hook(lambda p: None),
    "pruned": lambda m: prune.l1_unstructured(m, "weight", 0.5),
    "pruned bias": lambda m: prune.random_unstructured(m, "bias", 0.5),
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "spectral norm of old": nn.utils.spectral_norm,
    "forward replaced": lambda m: setattr(m, "forward", lambda x: x.new_zeros(len(x), 64)),
    "adapter": lambda m: m.add_module("adapter", nn.Linear(32, 64)),
    "mask": lambda m: m.register_buffer("mask", torch.ones(64, 32)),
    "half of an integer": lambda m: setattr(m, "weight", nn.Parameter(m.weight.data.to(torch.int8), False)),
    "complex": lambda m: setattr(m, "weight", nn.Parameter(m.weight.detach() * 1j)),
    "csr": lambda m: setattr(m, "weight", nn.Parameter(m.weight.detach().to_sparse_coo())),
}


@pytest.mark.parametrize("kind", HOOKS)
def test_what_hangs_on_a_layer_leaves_it_dense_with_the_reason(kind: str) -> None:
    model = net()
    HOOKS[kind](model[0])
    before = model[0]
    report = sparse.convert(model, 0.5, 16)
    assert model[0] is before and report.skipped["0"] and "2" in report.converted


def test_a_pruned_layer_computes_what_it_did_and_stays_pruned() -> None:
    model = net()
    prune.l1_unstructured(model[0], "weight", 0.9)
    zeros, x = model[0].weight == 0, torch.randn(3, 32)
    expected = model[0](x)
    sparse.convert(model, 1.0, 16)
    assert torch.equal(model[0](x), expected)
    model(x).sum().backward()
    torch.optim.SGD(model.parameters(), 0.1).step()
    model(x)
    assert not model[0].weight[zeros].any()


def test_hooks_of_sparse_layers_survive_to_dense() -> None:
    model, calls = net(), []
    sparse.convert(model, 0.5, 16)
    model[0].register_forward_hook(lambda *_: calls.append(1))
    sparse.to_dense(model)(torch.ones(2, 32))
    assert calls == [1]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_dtype_mode_and_marks_are_kept(dtype: torch.dtype) -> None:
    model = net().to(dtype).eval()
    model[0].is_residual, model[0].weight.no_decay = True, True
    report = sparse.convert(model, 0.5, 16)
    assert report.converted == ("0", "2")
    assert model[0].values.dtype == model[0].bias.dtype == dtype and not model[0].training
    assert model[0].is_residual and model[0].values.no_decay
    assert model(torch.ones(2, 32, dtype=dtype)).dtype == dtype


def test_on_the_meta_device_it_converts_where_no_value_matters() -> None:
    with torch.device("meta"):
        model = net()
    assert "meta" in sparse.convert(model, 0.5, 16).skipped["0"]
    assert sparse.convert(model, 0.5, 16, keep="balanced").converted == ("0", "2")
    trained = net()
    sparse.convert(trained, 0.5, 16)
    x = torch.randn(3, 32)
    model.to_empty(device="cpu").load_state_dict(trained.state_dict())
    assert torch.equal(model(x), trained(x))


def test_after_distributed_wrapping_it_is_too_late() -> None:
    class Wrapped(nn.parallel.DistributedDataParallel):
        def __init__(self, module: nn.Module) -> None:
            nn.Module.__init__(self)
            self.module = module

    with pytest.raises(SparseError, match="then wrap"):
        sparse.convert(Wrapped(net()), 0.5, 16)


def test_a_layer_without_a_shape_stays_dense_until_it_has_one() -> None:
    model = nn.Sequential(nn.LazyLinear(64), nn.ReLU(), nn.Linear(64, 64))
    report = sparse.convert(model, 0.5, 16)
    assert type(model[2]) is sparse.nn.Linear and "no shape yet" in report.skipped["0"]
