"""Sparse training where torch's default dtype is not float32, and where modules start on the meta device."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from procosm import sparse
from procosm.sparse import matrix
from procosm.sparse.baselines import METHODS, make


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("optimizer", [sparse.optim.AdamW, sparse.optim.SGD, torch.optim.AdamW])
@pytest.mark.parametrize("kind", ["masked", "live"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_trains_where_float64_is_the_default(method: str, kind: str, optimizer, double: None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 32))
    if kind == "live":
        sparse.convert(model, 0.4, 16, headroom=1.5)
    trained = optimizer(model.parameters(), 0.01)
    settings = {"dense": {}, "static": {"density": 0.4}}.get(method, {"density": 0.4, "update_every": 2, "block": 16})
    sparsifier = make(method, model, trained, **settings, **({"probe_every": 1} if method == "procrustes" else {}))
    x, before = torch.randn(64, 64), [p.detach().clone() for p in model.parameters()]
    for step in range(9):
        sparsifier.before_step(step)
        loss = (model(x) - x[:, :32]).square().mean()
        loss.backward()
        trained.step()
        sparsifier.after_step(step)
        trained.zero_grad()
    assert loss.dtype == torch.float64
    for parameter, start in zip(model.parameters(), before, strict=True):
        assert torch.isfinite(parameter).all() and not torch.equal(parameter, start)
    again = make(method, model, trained, **settings, **({"probe_every": 1} if method == "procrustes" else {}))
    again.load_state_dict(sparsifier.state_dict())


@pytest.mark.parametrize("change", [lambda m: m.double(), lambda m: m.to(torch.float64)])
def test_a_float32_layer_may_become_float64(change) -> None:
    layer = change(sparse.nn.Linear(32, 32, block=16, density=0.5, mode="sparse"))
    optimizer = sparse.optim.AdamW(layer, 0.1)
    layer(torch.ones(2, 32, dtype=torch.float64)).sum().backward()
    optimizer.step()
    assert optimizer.state[layer.values]["exp_avg"].dtype == torch.float64
    layer.probe(torch.ones(2, 32, dtype=torch.float64), torch.ones(2, 32, dtype=torch.float64))


def meta_model() -> nn.Sequential:
    with torch.device("meta"):
        return nn.Sequential(
            sparse.nn.Conv2d(16, 32, 2, block=16, density=0.5, capacity=6), nn.Flatten(),
            sparse.nn.Linear(128, 64, block=16, density=0.25),
        )  # fmt: skip


def test_a_model_built_on_the_meta_device_takes_no_memory_and_tells_its_shapes() -> None:
    model = meta_model()
    assert all(p.is_meta for p in model.parameters())
    assert model(torch.empty(3, 16, 3, 3, device="meta")).shape == (3, 64)
    assert (model[0].live_blocks, model[0].capacity, model[2].live_blocks) == (4, 6, 8)


@pytest.mark.parametrize("way", ["reset", "load", "assign"])
def test_from_the_meta_device_to_a_trained_model(way: str) -> None:
    model = meta_model()
    if way == "reset":
        torch.manual_seed(0)
        model.to_empty(device="cpu")
        for layer in (model[0], model[2]):
            layer.reset_parameters()
            assert 0 < layer.values[: layer.live_blocks].abs().max() <= (layer.shape[1] * layer.density) ** -0.5
    else:
        trained = nn.Sequential(
            sparse.nn.Conv2d(16, 32, 2, block=16, density=0.5), nn.Flatten(),
            sparse.nn.Linear(128, 64, block=16, density=0.125),
        )  # fmt: skip
        if way == "load":
            with pytest.raises(RuntimeError, match=r"to_empty first, or load with assign=True"):
                model.load_state_dict(trained.state_dict())
            model.to_empty(device="cpu")
        model.load_state_dict(trained.state_dict(), assign=way == "assign")
        x = torch.randn(2, 16, 3, 3)
        assert torch.equal(model(x), trained(x))
    for layer in (model[0], model[2]):
        matrix.validate(layer.as_matrix())
    model(torch.randn(2, 16, 3, 3)).sum().backward()
    assert model[2].values.grad.any()


def test_reset_parameters_keeps_the_pattern_and_repeats_with_the_generator() -> None:
    layer = sparse.nn.Linear(64, 64, block=16, density=0.5, capacity=12)
    kept, before = layer.kept(), layer.to_dense()
    layer.reset_parameters(torch.Generator().manual_seed(3))
    first = layer.to_dense()
    layer.reset_parameters(torch.Generator().manual_seed(3))
    assert torch.equal(layer.kept(), kept) and torch.equal(layer.to_dense(), first)
    assert not torch.equal(first, before)
