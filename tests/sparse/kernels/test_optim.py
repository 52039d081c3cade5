"""The live-block optimizers against torch.optim on the same model."""

import copy

import pytest
import torch

from procosm import sparse
from procosm.sparse import matrix
from procosm.sparse.errors import SparseError
from tests.sparse.kernels.host_device import HostDevice

PAIRS = [
    (lambda m: sparse.optim.AdamW(m, 0.01, weight_decay=0.1), lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1)),
    (
        lambda m: sparse.optim.AdamW(m, 0.01, weight_decay=0.1, capturable=True),
        lambda p: torch.optim.AdamW(p, 0.01, weight_decay=0.1),
    ),
    (lambda m: sparse.optim.SGD(m, 0.1, 0.9, 0.01), lambda p: torch.optim.SGD(p, 0.1, 0.9, weight_decay=0.01)),
]


def model() -> torch.nn.Sequential:
    torch.manual_seed(0)
    layer = sparse.nn.Linear(32, 48, block=16, density=0.5, capacity=5, mode="sparse")
    return torch.nn.Sequential(layer, torch.nn.GELU(), torch.nn.Linear(48, 3))


def train(net: torch.nn.Module, optimizer: torch.optim.Optimizer, steps: int) -> None:
    x = torch.randn(steps, 20, 32, generator=torch.Generator().manual_seed(1))
    for batch in x:
        optimizer.zero_grad()
        net(batch).square().mean().backward()
        optimizer.step()


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_is_torchs_optimizer(mine, theirs) -> None:
    net, twin = model(), model()
    train(net, mine(net), 5)
    train(twin, theirs(twin.parameters()), 5)
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter, twin.get_parameter(name))
    matrix.validate(net[0].as_matrix())


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_resumes_from_its_state_dict(mine, theirs) -> None:
    net = model()
    optimizer = mine(net)
    train(net, optimizer, 3)
    twin = copy.deepcopy(net)
    resumed = mine(twin)
    resumed.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each, its in ((net, optimizer), (twin, resumed)):
        train(each, its, 2)
    for name, parameter in net.named_parameters():
        assert torch.equal(parameter, twin.get_parameter(name))


def test_moments_follow_their_blocks() -> None:
    net = model()
    optimizer = sparse.optim.AdamW(net)
    train(net, optimizer, 2)
    state, layer = optimizer.state[net[0].values], net[0]
    before = state["exp_avg"].clone()
    source = layer.set_kept(torch.tensor([[1, 1], [0, 1], [1, 0]], dtype=torch.bool))
    for name in optimizer.moments:
        state[name].copy_(matrix.carry(state[name], source))
    train(net, optimizer, 1)
    matrix.validate(layer.as_matrix())
    assert not torch.equal(before, state["exp_avg"]) and not state["exp_avg"][layer.live_blocks :].any()


def test_a_closure_is_run_and_its_loss_returned() -> None:
    net = model()
    optimizer = sparse.optim.SGD(net, 0.1)

    def closure() -> torch.Tensor:
        loss = net(torch.ones(2, 32)).square().mean()
        loss.backward()
        return loss

    before = net(torch.ones(2, 32)).square().mean()
    assert optimizer.step(closure) == before
    assert net(torch.ones(2, 32)).square().mean() < before


def test_parameters_in_bfloat16_are_an_error() -> None:
    net = model().bfloat16()
    net(torch.ones(2, 32).bfloat16()).sum().backward()
    with pytest.raises(SparseError, match="autocast"):
        sparse.optim.SGD(net).step()


@pytest.mark.parametrize(("mine", "theirs"), PAIRS)
def test_the_kernels_accept_what_the_optimizer_passes(mine, theirs, host: HostDevice, monkeypatch) -> None:
    from procosm.sparse import kernels, optim

    net, twin = model(), model()
    train(twin, theirs(twin.parameters()), 2)
    monkeypatch.setattr(optim, "backend", lambda tensor: kernels)
    train(net, mine(net), 2)
    assert host.launches == 2 * len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter, twin.get_parameter(name))


@pytest.mark.parametrize(
    "settings", [{"lr": -1.0}, {"weight_decay": -0.1}, {"betas": (0.9, 1.0)}, {"lr": float("nan")}]
)
def test_settings_that_cannot_be_are_errors(settings: dict) -> None:
    with pytest.raises(SparseError, match="must not be negative"):
        sparse.optim.AdamW(model(), **settings)
