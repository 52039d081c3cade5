"""SET, RigL, static and dense behind the calls of Procrustes."""

import copy

import pytest
import torch
from torch import Tensor, nn

from procosm.sparse import nn as sparse_nn
from procosm.sparse.baselines import METHODS, RigL, allocation, make
from procosm.sparse.convert import convert
from procosm.sparse.errors import SparseError
from procosm.sparse.prunable import prunable


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 16, 32), nn.ReLU(), nn.Linear(32, 4)
    )


def train(model: nn.Module, sparsifier, steps: range) -> list[float]:
    losses = []
    for step in steps:
        g = torch.Generator().manual_seed(step)
        x = torch.randn(16, 2, 6, 6, generator=g)
        sparsifier.before_step(step)
        loss = (model(x) - x.flatten(1)[:, :4]).square().mean()
        loss.backward()
        sparsifier.optimizer.step()
        sparsifier.after_step(step)
        sparsifier.optimizer.zero_grad()
        losses.append(float(loss.detach()))
    return losses


SETTINGS = {
    "dense": {},
    "static": {"density": 0.2},
    "set": {"density": 0.2, "update_every": 5},
    "rigl": {"density": 0.2, "update_every": 5, "stop_after": 20},
    "procrustes": {"density": 0.2, "update_every": 4, "probe_every": 2},
}


@pytest.mark.parametrize("method", METHODS)
def test_every_method_holds_its_density_and_resumes_bit_exactly(method):
    def fresh(seed: int):
        model = network(seed)
        return model, make(method, model, torch.optim.AdamW(model.parameters(), 1e-2), **SETTINGS[method])

    model, sparsifier = fresh(0)
    train(model, sparsifier, range(13))
    assert sparsifier.density() == pytest.approx(1.0 if method == "dense" else 0.2, rel=0.1)
    saved = copy.deepcopy([part.state_dict() for part in (model, sparsifier.optimizer, sparsifier)])
    straight = train(model, sparsifier, range(13, 26))
    again, resumed = fresh(1)
    for part, state in zip((again, resumed.optimizer, resumed), saved, strict=True):
        part.load_state_dict(state)
    assert train(again, resumed, range(13, 26)) == straight


def exchanges(method: str, **settings: object) -> list[tuple[int, list[Tensor], list[Tensor]]]:
    """(step, masks before, masks after) wherever a mask changed."""
    model = network()
    sparsifier = make(method, model, torch.optim.SGD(model.parameters(), 0.1), density=0.2, **settings)
    found, before = [], None
    for step in range(31):
        train(model, sparsifier, range(step, step + 1))
        after = [w.kept().clone() for w in sparsifier.weights]
        if before is not None and any(not torch.equal(a, b) for a, b in zip(before, after, strict=True)):
            found.append((step, before, after))
        before = after
    return found


def test_static_never_changes():
    assert exchanges("static") == []


@pytest.mark.parametrize("method", ["set", "rigl"])
def test_exchanges_come_when_scheduled_and_keep_every_layers_count(method):
    found = exchanges(method, update_every=5, stop_after=20, swap=0.3)
    assert {step for step, *_ in found} <= {5, 10, 15, 20}
    assert len(found) >= 3
    for step, before, after in found:
        share = 0.3 if method == "set" else 0.15 * (1 + torch.cos(torch.tensor(torch.pi * step / 20)).item())
        for a, b in zip(before, after, strict=True):
            count = round(share * int(a.sum()))
            assert int((a & ~b).sum()) == int((b & ~a).sum()) == min(count, int((~a).sum()))


def test_rigl_drops_the_smallest_and_grows_the_steepest():
    torch.manual_seed(0)
    model = nn.Linear(12, 10, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    rigl = make("rigl", model, optimizer, density=0.3, allocation="uniform", update_every=2, swap=0.25)
    assert isinstance(rigl, RigL)
    for step in range(3):
        rigl.before_step(step)
        kept, before = rigl.weights[0].kept().clone(), model.weight.detach().clone()
        x = torch.randn(20, 12)
        model(x).sin().sum().backward()
        gradient = (model.weight.new_tensor(0) + (x @ before.T).cos()).T @ x
        optimizer.step()
        moved = model.weight.detach().clone()
        rigl.after_step(step)
        optimizer.zero_grad()
    count = round(0.25 * 36)
    size = torch.where(kept, moved.abs(), torch.inf).view(-1)
    steep = torch.where(kept, -1.0, gradient.abs()).view(-1)
    expected = kept.clone().view(-1)
    expected[size.topk(count, largest=False).indices] = False
    grown = steep.topk(count).indices
    expected[grown] = True
    assert torch.equal(rigl.weights[0].kept().view(-1), expected)
    assert not model.weight.detach().view(-1)[grown].any()
    assert not optimizer.state[model.weight]["momentum_buffer"].view(-1)[grown].any()


def test_erk_gives_small_layers_more_and_the_total_what_was_asked():
    weights = prunable(network(), block=1)
    for density in (0.05, 0.2, 0.7, 1.0):
        shares = allocation(weights, density, "erk")
        sizes = [w.kept().numel() for w in weights]
        assert all(0 < s <= 1 for s in shares)
        assert sum(s * n for s, n in zip(shares, sizes, strict=True)) == pytest.approx(density * sum(sizes))
        if density == 0.05:
            assert shares[0] > shares[1]
            assert shares[1] / shares[2] == pytest.approx(((32 + 128) / (32 * 128)) / ((4 + 32) / (4 * 32)))


@pytest.mark.parametrize("method", ["static", "set", "rigl", "procrustes"])
def test_sparse_layers_are_taken_over_with_their_pattern(method):
    torch.manual_seed(0)
    layer = sparse_nn.Linear(64, 64, block=16, density=0.25)
    model = nn.Sequential(nn.Flatten(), nn.Linear(72, 64), layer, nn.Linear(64, 4))
    before = layer.to_dense().detach().clone()
    sparsifier = make(method, model, torch.optim.SGD(model.parameters(), 0.1), **SETTINGS[method])
    sparsifier.before_step(0)
    assert [w.name for w in sparsifier.weights] == ["2"]
    assert torch.equal(layer.to_dense(), before)


def test_make_lists_what_there_is():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with pytest.raises(SparseError, match="dense, static, set, rigl, procrustes"):
        make("lottery", model, optimizer)
    with pytest.raises(SparseError, match=r"set has no setting horizon; it has density, .*swap"):
        make("set", model, optimizer, horizon=3)
    with pytest.raises(SparseError, match="density"):
        make("static", model, optimizer, density=2.0)
    with pytest.raises(SparseError, match="swap"):
        make("set", model, optimizer, swap=-0.1)


def test_an_allocation_that_sparse_layers_do_not_have_is_an_error_not_ignored():
    for asked, fits in (("erk", "erk"), ("uniform", "uniform"), ("erk", "uniform"), ("uniform", "erk")):
        model = nn.Sequential(nn.Linear(256, 256), nn.Linear(256, 32), nn.Linear(32, 512))
        convert(model, 0.2, 16, allocation=fits)
        sparsifier = make("static", model, torch.optim.SGD(model.parameters(), 0.1), density=0.2, allocation=asked)
        if asked == fits:
            sparsifier.before_step(0)
            continue
        with pytest.raises(SparseError, match=f"allocation='{asked}'"):
            sparsifier.before_step(0)
