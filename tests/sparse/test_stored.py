"""What files hold of layers with headroom: live blocks, and all that training needs to go on just as it would have."""

import copy
import io
import pickle

import pytest
import torch
from torch import nn

from procosm import sparse
from procosm.sparse.baselines import make
from procosm.sparse.errors import SparseError

BLOCK_BYTES = 16 * 16 * 4


def network(headroom: int = 8, seed: int = 0) -> nn.Module:
    """8 of 64 blocks live in each sparse layer, the second used twice; a dense layer and a convolution beside them."""
    torch.manual_seed(seed)
    first, shared = (sparse.nn.Linear(128, 128, block=16, density=0.125, capacity=8 * headroom) for _ in range(2))
    window = sparse.nn.Conv2d(32, 32, 3, block=16, density=8 / 36, capacity=min(36, 8 * headroom))
    return nn.ModuleDict({"body": nn.Sequential(first, shared, shared, nn.Linear(128, 4)), "window": window})


def train(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range, sparsifier=None) -> list[torch.Tensor]:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        if sparsifier:
            sparsifier.before_step(step)
        loss = model["body"](torch.randn(8, 128, generator=generator)).square().mean()
        (loss + model["window"](torch.randn(2, 32, 6, 6, generator=generator)).square().mean()).backward()
        optimizer.step()
        if sparsifier:
            sparsifier.after_step(step)
        optimizer.zero_grad()
    return [parameter.detach().clone() for parameter in model.parameters()]


def written(thing) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def read(content: bytes, weights_only: bool = False):
    return torch.load(io.BytesIO(content), weights_only=weights_only)


WAYS = {
    "torch.save": lambda thing: read(written(thing)),
    "pickle": lambda thing: pickle.loads(pickle.dumps(thing)),
    "deepcopy": copy.deepcopy,
}
OPTIMIZERS = {
    "AdamW of a model": lambda model: sparse.optim.AdamW(model, 0.01),
    "AdamW of parameters": lambda model: sparse.optim.AdamW(model.parameters(), 0.01),
    "SGD of a model": lambda model: sparse.optim.SGD(model, 0.01, 0.9),
}


@pytest.mark.parametrize("change", ["as built", "copied", "in another dtype", "loaded", "averaged", "reloaded"])
def test_a_whole_module_takes_no_more_bytes_than_one_without_headroom(change) -> None:
    def made(headroom: int) -> nn.Module:
        model = network(headroom)
        if change == "copied":
            return copy.deepcopy(model)
        if change == "in another dtype":
            return model.double().float()
        if change == "loaded":
            model.load_state_dict(network(1, seed=1).state_dict(), assign=True)
        if change == "averaged":
            return torch.optim.swa_utils.AveragedModel(model)
        return read(written(model)) if change == "reloaded" else model

    roomy, tight = made(8), made(1)
    for save in (written, pickle.dumps):
        assert abs(len(save(roomy)) - len(save(tight))) < 2 * BLOCK_BYTES
    again = read(written(roomy))
    for (name, ours), theirs in zip(roomy.named_parameters(), again.parameters(), strict=True):
        assert torch.equal(ours, theirs) and ours.requires_grad == theirs.requires_grad, name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_state_of_an_optimizer_takes_no_more_bytes_than_one_without_headroom(name) -> None:
    sizes = []
    for headroom in (8, 1):
        model = network(headroom)
        optimizer = OPTIMIZERS[name](model)
        train(model, optimizer, range(2))
        sizes.append([len(written(optimizer.state_dict())), len(pickle.dumps(optimizer)), len(written(optimizer))])
    assert all(abs(roomy - tight) < 4 * BLOCK_BYTES for roomy, tight in zip(*sizes, strict=True)), sizes


@pytest.mark.parametrize("headroom", [8, 5, 1])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_saved_states_load_into_another_capacity_and_training_goes_on_the_same(name, headroom) -> None:
    model, other = network(8), network(headroom, seed=5)
    optimizer, loaded = OPTIMIZERS[name](model), OPTIMIZERS[name](other)
    train(model, optimizer, range(3))
    train(other, loaded, range(1))  # it has a state of its own, which is replaced
    other.load_state_dict(read(written(model.state_dict()), weights_only=True))
    loaded.load_state_dict(read(written(optimizer.state_dict()), weights_only=True))
    ours, theirs = train(model, optimizer, range(3, 6)), train(other, loaded, range(3, 6))
    for a, b in zip(ours, theirs, strict=True):
        assert torch.equal(a[: len(b)], b) and not a[len(b) :].any()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["procrustes", "set"])
def test_a_run_copied_whole_goes_on_exactly_as_it_would_have(method, way) -> None:
    """The copy has blocks' room to grow into, and its optimizer steps the copied parameters."""
    model = network(8)
    optimizer = sparse.optim.AdamW(model, 0.01)
    every = {"density": 0.2, "update_every": 2, **({"probe_every": 1} if method == "procrustes" else {})}
    sparsifier = make(method, model, optimizer, **every)
    train(model, optimizer, range(5), sparsifier)
    twin, its_optimizer, its = WAYS[way]((model, optimizer, sparsifier))
    assert its_optimizer.param_groups[0]["params"][0] is twin["body"][0].values is its.weights[0].parameter
    ours = train(model, optimizer, range(5, 11), sparsifier)
    theirs = train(twin, its_optimizer, range(5, 11), its)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_first_weights_of_a_sparsifier_are_stored_without_headroom_and_load_into_any_capacity() -> None:
    runs = []
    for headroom in (8, 3):
        model = network(headroom)
        optimizer = sparse.optim.AdamW(model, 0.01)
        sparsifier = make("procrustes", model, optimizer, density=0.14, update_every=2, probe_every=1)
        runs.append((model, optimizer, sparsifier))
    (model, optimizer, sparsifier), (other, loaded, its) = runs
    train(model, optimizer, range(3), sparsifier)
    state = sparsifier.state_dict()
    assert sum(len(tensor) for name, tensor in state.items() if name.endswith("initial")) < 3 * 12
    states = copy.deepcopy([model.state_dict(), optimizer.state_dict(), state])
    for part, saved in zip((other, loaded, its), states, strict=True):
        part.load_state_dict(saved)
    ours, theirs = train(model, optimizer, range(3, 4), sparsifier), train(other, loaded, range(3, 4), its)
    assert all(torch.equal(a[: len(b)], b) for a, b in zip(ours, theirs, strict=True))
    for copied in (written(sparsifier.weights), pickle.dumps(sparsifier.weights)):
        assert len(copied) < 2 * 3 * 13 * BLOCK_BYTES + 40_000


def test_parameters_keep_what_was_set_on_them_and_open_with_weights_only() -> None:
    model = network(8)
    values = model["body"][0].values
    values.note, values.requires_grad = "mine", False
    opened = read(written(list(model.parameters())), weights_only=True)
    assert opened[0].note == "mine" and not opened[0].requires_grad and opened[1].requires_grad == values.is_leaf
    assert all(type(p) is nn.Parameter and torch.equal(p, q) for p, q in zip(opened, model.parameters(), strict=True))


def test_headroom_that_holds_something_is_stored() -> None:
    """Padding is told by its zeros, so that nothing is lost even where somebody wrote there."""
    layer = sparse.nn.Linear(64, 64, block=16, density=0.25, capacity=16)
    with torch.no_grad():
        layer.values[11, 0, 0] = float("nan")
    again = read(written(layer))
    assert torch.equal(again.values.isnan(), layer.values.isnan()) and len(again.values) == 16


def test_a_state_that_fits_no_parameter_is_refused() -> None:
    model, small = network(8), network(1)
    optimizer, other = sparse.optim.AdamW(model), sparse.optim.AdamW(small)
    model["body"][0].set_kept(torch.ones(8, 8, dtype=torch.bool))
    train(model, optimizer, range(1))
    with pytest.raises(SparseError, match="larger capacity"):
        other.load_state_dict(optimizer.state_dict())


def test_a_model_can_be_moved_where_torch_swaps_parameters() -> None:
    model = network(8)
    torch.__future__.set_swap_module_params_on_conversion(True)
    try:
        model.double()
    finally:
        torch.__future__.set_swap_module_params_on_conversion(False)
    assert all(parameter.dtype == torch.float64 for parameter in model.parameters())
    assert len(written(model)) < 2 * 40 * BLOCK_BYTES * 2
