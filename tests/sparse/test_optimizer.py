"""DropBack weight by weight, against the algorithm written out in NumPy."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from procosm.sparse.errors import SparseError
from procosm.sparse.generator import Initial
from procosm.sparse.optimizer import DropBack, DropBackConfig
from procosm.sparse.quantile import QuantileConfig


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 10))


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    g = torch.Generator().manual_seed(1)
    return [(torch.randn(16, 1, 8, 8, generator=g), torch.randint(0, 10, (16,), generator=g)) for _ in range(count)]


def backward(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    loss = nn.functional.cross_entropy(model(batch[0]), batch[1])
    loss.backward()
    return loss


def literal_dropback(model: nn.Module, data: list, lr: float, wd: float, k: int, decay: float) -> list[np.ndarray]:
    """The published step, literally: all weights move by plain SGD, one global score vector, the k largest stay,
    the rest return to d_t W0, of which a clone is kept. float32 throughout; ties go to the lower index."""
    w0 = [p.detach().numpy().copy() for p in model.parameters()]
    d, history = 1.0, []
    for batch in data:
        model.zero_grad()
        backward(model, batch)
        weights = [
            p.detach().numpy() - np.float32(lr) * (p.grad.numpy() + np.float32(wd) * p.detach().numpy())
            for p in model.parameters()
        ]
        score = np.concatenate([np.abs(w - np.float32(d) * z).ravel() for w, z in zip(weights, w0, strict=True)])
        keep = np.zeros(score.size, bool)
        keep[np.lexsort((np.arange(score.size), -score))[:k]] = True
        start = 0
        for p, w, z in zip(model.parameters(), weights, w0, strict=True):
            mask = keep[start : start + w.size].reshape(w.shape)
            start += w.size
            p.data.copy_(torch.from_numpy(np.where(mask, w, np.float32(d) * z)))
        d = 0.0 if d * decay < 1e-10 else d * decay
        history.append(np.concatenate([p.detach().numpy().ravel() for p in model.parameters()]))
    return history


def flat(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().view(-1) for p in model.parameters()])


@pytest.mark.parametrize(("decay", "steps"), [(0.9, 12), (0.05, 12), (1.0, 6)])
def test_dropback_is_the_literal_algorithm_bit_for_bit(decay, steps):
    """0.9 over twelve steps; 0.05 passes 1e-10 at step 8, so the last steps have the exact zeros; 1 never decays.

    Every float is equal; only the sign of a zero is free (a literal 0 * W0 keeps that of W0).
    """
    ours, theirs = network(), network()
    lr, wd = 0.25, 0.0625  # powers of two: the two ways to write lr * (g + wd W) then round alike
    n = sum(p.numel() for p in ours.parameters())
    optimizer = DropBack(
        torch.optim.SGD(ours.parameters(), lr, weight_decay=wd), ours.named_parameters(), DropBackConfig(0.1, decay)
    )
    theirs.load_state_dict(ours.state_dict())
    data = batches(steps)
    for batch, expected in zip(data, literal_dropback(theirs, data, lr, wd, round(0.1 * n), decay), strict=True):
        optimizer.zero_grad()
        backward(ours, batch)
        optimizer.step()
        assert np.array_equal(flat(ours).numpy(), expected)
    untracked = int((flat(ours) == 0).sum())
    assert (untracked >= n - round(0.1 * n)) == (decay == 0.05)


OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.1),
    "momentum": lambda p: torch.optim.SGD(p, 0.05, momentum=0.9),
    "adamw": lambda p: torch.optim.AdamW(p, 3e-3),
}


def train(model: nn.Module, optimizer: DropBack, data: list, clip: bool = False) -> None:
    for batch in data:
        optimizer.zero_grad()
        backward(model, batch)
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()


@pytest.mark.parametrize("base", OPTIMIZERS)
@pytest.mark.parametrize("moments", ["keep", "discard"])
def test_the_budget_holds_under_every_optimizer(base, moments):
    model = network()
    config = DropBackConfig(0.1, moments=moments)
    optimizer = DropBack(OPTIMIZERS[base](model.parameters()), model.named_parameters(), config)
    train(model, optimizer, batches(20), clip=True)
    n = flat(model).numel()
    tracked = torch.cat([mask.view(-1) for mask in optimizer.tracked().values()])
    assert 0.9 * round(0.1 * n) <= int(tracked.sum()) <= round(0.1 * n)
    if moments == "discard" and base != "sgd":
        for name, mask in optimizer.tracked().items():
            moment = optimizer.state[optimizer.named[name]]["momentum_buffer" if base == "momentum" else "exp_avg"]
            assert not moment[~mask].any()


@pytest.mark.parametrize("base", OPTIMIZERS)
@pytest.mark.parametrize("method", ["sort", "dumique", "batched", "histogram"])
def test_a_resumed_run_is_bit_exact(base, method):
    def fresh(seed: int) -> tuple[nn.Module, DropBack]:
        model = network(seed)
        config = DropBackConfig(0.2, quantile=QuantileConfig(method))
        return model, DropBack(OPTIMIZERS[base](model.parameters()), model.named_parameters(), config)

    data = batches(9)
    model, optimizer = fresh(0)
    train(model, optimizer, data[:5])
    saved = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    train(model, optimizer, data[5:])
    again, resumed = fresh(1)
    again.load_state_dict(saved[0])
    resumed.load_state_dict(saved[1])
    train(again, resumed, data[5:])
    assert torch.equal(flat(model), flat(again))


def test_all_weights_tracked_is_the_plain_optimizer():
    sparse, plain = network(), network()
    optimizer = DropBack(torch.optim.AdamW(sparse.parameters()), sparse.named_parameters(), DropBackConfig(1.0))
    plain.load_state_dict(sparse.state_dict())
    reference = torch.optim.AdamW(plain.parameters())
    for batch in batches(5):
        for model, opt in ((sparse, optimizer), (plain, reference)):
            opt.zero_grad()
            backward(model, batch)
            opt.step()
    assert torch.equal(flat(sparse), flat(plain))


def test_schedulers_and_closures_reach_the_wrapped_optimizer():
    model = network()
    optimizer = DropBack(torch.optim.SGD(model.parameters(), 0.1), model.named_parameters(), DropBackConfig(0.1))
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
    batch = batches(1)[0]
    loss = optimizer.step(lambda: backward(model, batch))
    schedule.step()
    assert float(loss.detach()) > 0
    assert optimizer.optimizer.param_groups[0]["lr"] == 0.05


def test_a_step_the_loss_scaler_skips_changes_nothing():
    model = network()
    optimizer = DropBack(torch.optim.SGD(model.parameters(), 0.1), model.named_parameters(), DropBackConfig(0.1))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    before = flat(model).clone()
    scaler.scale(nn.functional.cross_entropy(model(batches(1)[0][0]), batches(1)[0][1])).backward()
    model[4].weight.grad[0, 0] = torch.inf
    scaler.step(optimizer)
    scaler.update()
    assert torch.equal(flat(model), before)
    assert optimizer.steps == 0
    optimizer.zero_grad()
    scaler.scale(nn.functional.cross_entropy(model(batches(1)[0][0]), batches(1)[0][1])).backward()
    scaler.step(optimizer)
    assert optimizer.steps == 1
    assert not torch.equal(flat(model), before)


def test_adam_without_moments_ties_all_newcomers():
    """Why discarding is no good with Adam: after many steps the fresh update of every untracked weight is alike."""
    model = nn.Linear(50, 40, bias=False)
    config = DropBackConfig(0.05, decay=0.0, moments="discard")
    optimizer = DropBack(torch.optim.Adam(model.parameters(), 1e-3, eps=1e-30), model.named_parameters(), config)
    g = torch.Generator().manual_seed(0)
    sizes = torch.rand(40, 50, generator=g) * 10 + 0.1
    for _ in range(5_000 // 10):
        model.weight.grad = sizes * torch.randn(40, 50, generator=g)
        optimizer.step()
    untracked = ~optimizer.tracked()["weight"]
    before = model.weight.detach().clone()
    model.weight.grad = sizes.clone()
    optimizer.optimizer.step()
    moved = (model.weight.detach() - before)[untracked].abs()
    assert float(moved.max() / moved.min()) < 1.0001


def test_bad_arguments_name_the_remedy():
    model = network()
    base = torch.optim.SGD([model[0].weight], 0.1)
    with pytest.raises(SparseError, match="no optimizer group"):
        DropBack(base, model.named_parameters(), DropBackConfig())
    with pytest.raises(SparseError, match="W0 recipe"):
        DropBack(
            base, [("0.weight", model[0].weight)], DropBackConfig(), initial={"other": Initial((1,), "constant", 0)}
        )
    with pytest.raises(SparseError, match="decay"):
        DropBackConfig(decay=1.1)
    optimizer = DropBack(base, [("0.weight", model[0].weight)], DropBackConfig())
    with pytest.raises(SparseError, match="not of a DropBack run"):
        optimizer.load_state_dict(torch.optim.SGD([model[0].weight], 0.1).state_dict())
