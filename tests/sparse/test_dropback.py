"""Procrustes by blocks: its invariants, its arithmetic, and sparse layers against masked dense ones."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from procosm.sparse import nn as sparse_nn
from procosm.sparse.dropback import Procrustes, ProcrustesConfig
from procosm.sparse.errors import SparseError
from procosm.sparse.quantile import QuantileConfig

OPTIMIZERS = {
    "sgd": lambda p: torch.optim.SGD(p, 0.5),
    "momentum": lambda p: torch.optim.SGD(p, 0.2, momentum=0.9, weight_decay=1e-3),
    "adamw": lambda p: torch.optim.AdamW(p, 1e-2, weight_decay=0.1),
}


def network(seed: int = 0) -> nn.Module:
    """Weights of a tenth of the usual size, so that a few steps' gradients compete with them."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(64, 96), nn.GELU(), nn.LayerNorm(96), nn.Linear(96, 32))
    for layer in (model[0], model[3]):
        layer.weight.data.mul_(0.1)
    return model


def sparse_network(density: float = 0.3, headroom: float = 1.5) -> nn.Module:
    g = torch.Generator().manual_seed(0)

    def layer(width: int, out: int) -> nn.Module:
        blocks = (width // 16) * (out // 16)
        capacity = min(blocks, round(headroom * density * blocks))
        made = sparse_nn.Linear(width, out, block=16, density=density, capacity=capacity, generator=g)
        made.values.data.mul_(0.1)
        return made

    return nn.Sequential(layer(64, 96), nn.GELU(), nn.LayerNorm(96), layer(96, 32))


def batch(step: int) -> tuple[Tensor, Tensor]:
    g = torch.Generator().manual_seed(1000 + step)
    x = torch.randn(32, 64, generator=g)
    return x, x[:, :32] * x[:, 32:]


def run(model: nn.Module, optimizer: torch.optim.Optimizer, sparsifier: Procrustes, steps: range, clip: float = 0.0):
    """Train; yields after every step."""
    for step in steps:
        sparsifier.before_step(step)
        x, y = batch(step)
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        sparsifier.after_step(step)
        optimizer.zero_grad()
        yield float(loss.detach())


def masks(sparsifier: Procrustes) -> list[Tensor]:
    return [w.kept().clone() for w in sparsifier.weights]


CONFIG = {"density": 0.2, "block": 8, "update_every": 6, "probe_every": 3, "horizon": 64.0}


@pytest.mark.parametrize("base", OPTIMIZERS)
@pytest.mark.parametrize("method", ["sort", "dumique", "batched", "histogram"])
def test_density_holds_and_masks_change_only_when_scheduled(base, method):
    model = network()
    optimizer = OPTIMIZERS[base](model.parameters())
    config = ProcrustesConfig(**CONFIG, quantile=QuantileConfig(method), stop_after=30)
    sparsifier = Procrustes(model, optimizer, config)
    before, changes = None, []
    for step, _ in enumerate(run(model, optimizer, sparsifier, range(43), clip=1.0)):
        now = masks(sparsifier)
        if before is not None and any(not torch.equal(a, b) for a, b in zip(before, now, strict=True)):
            changes.append(step)
        before = now
        assert sparsifier.density() == pytest.approx(0.2, rel=0.1)
        for weight in sparsifier.weights:
            for moment in optimizer.state[weight.parameter].values():
                if moment is not None and isinstance(moment, Tensor) and moment.ndim == 2:
                    assert not moment[~weight._spread(weight.kept())].any()
    assert changes
    assert all(step % 6 == 0 and step <= 30 for step in changes)


def test_untracked_weights_decay_to_exact_zero_and_kept_ones_move_on():
    model = network()
    optimizer = OPTIMIZERS["adamw"](model.parameters())
    sparsifier = Procrustes(model, optimizer, ProcrustesConfig(**CONFIG, decay=0.5))
    share = 1.0
    for _ in run(model, optimizer, sparsifier, range(37)):
        for weight in sparsifier.weights:
            untracked = ~weight._spread(weight.kept())
            expected = weight.initial.tensor() * share
            assert torch.equal(weight.parameter.detach()[untracked], expected[untracked])
        share = share / 2 if share / 2 >= 1e-10 else 0.0
    assert share == 0.0


def test_ramp_floor_and_capacity_bound_every_layer():
    model = network()
    optimizer = OPTIMIZERS["sgd"](model.parameters())
    settings = {**CONFIG, "initial_density": 0.8, "ramp_steps": 18, "layer_floor": 0.7}
    sparsifier = Procrustes(model, optimizer, ProcrustesConfig(**settings))
    densities = []
    for _ in run(model, optimizer, sparsifier, range(20)):
        densities.append(sparsifier.density())
        assert all(float(mask.double().mean()) >= 0.7 * 0.2 - 0.02 for mask in masks(sparsifier))
    expected = [0.2 + 0.6 * (1 - t / 18) ** 3 for t in (0, 6, 12, 18)]
    assert densities[0:19:6] == pytest.approx(expected, rel=0.1)
    layers = sparse_network(0.3, headroom=1.1)
    chosen = Procrustes(layers, OPTIMIZERS["sgd"](layers.parameters()), ProcrustesConfig(0.3))
    scores = [torch.full((6, 4), 9.0) + torch.rand(6, 4), torch.rand(2, 6)]
    kept = chosen.select(scores, 0.3)
    assert kept[0].sum() == chosen.weights[0].capacity == 8
    assert 10 <= sum(int(k.sum()) for k in kept) <= 12


def test_selection_is_dropbacks_own_rule_at_b_1_and_horizon_1():
    """Plain SGD and no initial share: of |W| at kept and lr |g| at untracked weights the k largest stay, the gradient
    computed here by hand.
    """
    torch.manual_seed(0)
    model = nn.Linear(20, 10, bias=False)
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    config = ProcrustesConfig(
        0.25,
        update_every=1,
        probe_every=1,
        horizon=1.0,
        hysteresis=0.0,
        decay=0.0,
        layer_floor=0.0,
        max_exchange=1.0,
        quantile=QuantileConfig("sort"),
    )
    sparsifier, weight = Procrustes(model, optimizer, config), model.weight
    for step in range(8):
        sparsifier.before_step(step)
        kept, before = sparsifier.weights[0].kept().clone(), weight.detach().clone()
        x = torch.randn(16, 20)
        gradient = (2 / 160) * (x @ before.T - x[:, :10]).T @ x
        nn.functional.mse_loss(model(x), x[:, :10]).backward()
        optimizer.step()
        sparsifier.after_step(step)
        optimizer.zero_grad()
        moved = before - 0.5 * gradient
        score = torch.where(kept, moved.abs(), 0.5 * gradient.abs()).view(-1)
        expected = torch.zeros(200, dtype=torch.bool)
        expected[score.topk(50).indices] = True
        assert torch.equal(sparsifier.weights[0].kept(), expected.view(10, 20))
        values = torch.where(expected.view(10, 20) & kept, moved, 0.0)
        torch.testing.assert_close(weight.detach(), values, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("base", OPTIMIZERS)
def test_a_sparse_layer_trains_like_a_masked_dense_one(base):
    """The same choices and weights from layers that store live blocks only and from the simulation."""
    live, dense = sparse_network(headroom=9.0), network()
    for a, b in ((live[0], dense[0]), (live[3], dense[3])):
        b.weight.data.copy_(a.to_dense())
        b.bias.data.copy_(a.bias)
    config = ProcrustesConfig(0.3, block=16, update_every=4, probe_every=2, horizon=64.0, decay=0.0)
    ours, theirs = (Procrustes(m, OPTIMIZERS[base](m.parameters()), config) for m in (live, dense))
    ours.before_step(0)
    state = theirs.state_dict()
    state |= {"started": torch.tensor(True), "kept.0.weight": live[0].kept(), "kept.3.weight": live[3].kept()}
    theirs.load_state_dict(state)
    start, swapped = masks(ours), False
    runs = (run(m, s.optimizer, s, range(17), clip=0.5) for m, s in ((live, ours), (dense, theirs)))
    for a, b in zip(*runs, strict=True):
        assert a == pytest.approx(b, rel=1e-4)
        assert all(torch.equal(x, y) for x, y in zip(masks(ours), masks(theirs), strict=True))
        swapped |= any(not torch.equal(x, y) for x, y in zip(start, masks(ours), strict=True))
    assert swapped
    torch.testing.assert_close(live[0].to_dense(), dense[0].weight, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("base", OPTIMIZERS)
@pytest.mark.parametrize("kind", ["masked", "live"])
def test_a_resumed_run_is_bit_exact(base, kind):
    """Stopped between two updates, with probes already taken, in the phase where initial weights still decay."""

    def fresh(seed: int) -> tuple[nn.Module, Procrustes]:
        model = network(seed) if kind == "masked" else sparse_network(headroom=9.0)
        config = ProcrustesConfig(0.3, block=8, update_every=6, probe_every=3, quantile=QuantileConfig("batched"))
        return model, Procrustes(model, OPTIMIZERS[base](model.parameters()), config)

    model, sparsifier = fresh(0)
    list(run(model, sparsifier.optimizer, sparsifier, range(11)))
    parts = (model, sparsifier.optimizer, sparsifier)
    saved = copy.deepcopy([part.state_dict() for part in parts])
    assert all(isinstance(value, Tensor) for value in saved[2].values())
    straight = list(run(*parts, range(11, 21)))
    model, sparsifier = fresh(1)
    for part, state in zip((model, sparsifier.optimizer, sparsifier), saved, strict=True):
        part.load_state_dict(state)
    assert list(run(model, sparsifier.optimizer, sparsifier, range(11, 21))) == straight


def probed(clip: float = 0.0, scale: float = 1.0, micro: int = 1) -> list[Tensor]:
    """Gradients the sparsifier has gathered by the end of step 3, the first probe after the first update."""
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    sparsifier = Procrustes(model, optimizer, ProcrustesConfig(**CONFIG, decay=0.0))
    scaler = torch.amp.GradScaler("cpu", init_scale=scale, enabled=scale != 1.0)
    x, y = batch(0)
    for step in range(4):
        sparsifier.before_step(step)
        for rows in torch.arange(32).chunk(micro):
            scaler.scale(nn.functional.mse_loss(model(x[rows]), y[rows]) / micro).backward()
        if clip:
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        sparsifier.after_step(step)
        optimizer.zero_grad()
    return sparsifier.gradients()


def test_probes_are_in_the_units_the_optimizer_saw():
    """Untracked blocks must compete with gradients that were unscaled and clipped like those of kept ones."""
    plain, scaled, clipped = probed(), probed(scale=2.0**12), probed(clip=1e-3, scale=2.0**12)
    for a, b in zip(plain, scaled, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=0.0)
    model = network()
    sparsifier = Procrustes(model, torch.optim.SGD(model.parameters(), 0.0), ProcrustesConfig(**CONFIG, decay=0.0))
    x, y = batch(0)
    list(run(model, sparsifier.optimizer, sparsifier, range(1)))
    nn.functional.mse_loss(model(x), y).backward()
    norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
    for a, b in zip(plain, clipped, strict=True):
        assert float((a / b).mean()) == pytest.approx(float(norm) / 1e-3, rel=0.2)


def test_probes_are_the_gradient_of_the_dense_weight():
    """RMS of each block of dL/dW, from the dense gradient of an unmasked copy."""
    for model in (network(), sparse_network()):
        optimizer = torch.optim.SGD(model.parameters(), 0.0)
        sparsifier = Procrustes(model, optimizer, ProcrustesConfig(**{**CONFIG, "block": 16}, decay=0.0))
        list(run(model, optimizer, sparsifier, range(3)))
        sparsifier.before_step(3)
        x, y = batch(3)
        nn.functional.mse_loss(model(x), y).backward()
        sparsifier.after_step(3)
        layers = [model[0], model[3]]
        dense = [m.to_dense() if isinstance(m, sparse_nn.Linear) else m.weight for m in layers]
        free = [w.detach().clone().requires_grad_() for w in dense]
        hidden = model[2](model[1](nn.functional.linear(x, free[0], layers[0].bias)))
        nn.functional.mse_loss(nn.functional.linear(hidden, free[1], layers[1].bias), y).backward()
        for weight, w, found in zip(sparsifier.weights, free, sparsifier.gradients(), strict=True):
            gm, gn = weight.kept().shape
            truth = w.grad.view(gm, 16, gn, 16).square().mean((1, 3)).sqrt()
            untracked = ~weight.kept()
            torch.testing.assert_close(found[untracked], truth[untracked], rtol=1e-4, atol=1e-8)


def test_an_overflowing_step_leaves_the_pattern_alone():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = Procrustes(model, optimizer, ProcrustesConfig(**CONFIG))
    list(run(model, optimizer, sparsifier, range(5)))
    before = masks(sparsifier)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**120)
    for step in (5, 6):
        sparsifier.before_step(step)
        scaler.scale(model(torch.full((4, 64), 1e30)).square().sum()).backward()
        scaler.step(optimizer)
        scaler.update()
        sparsifier._probe_count = 0
        sparsifier.after_step(step)
        optimizer.zero_grad()
    assert all(torch.equal(a, b) for a, b in zip(before, masks(sparsifier), strict=True))
    assert all(torch.isfinite(p).all() for p in model.parameters())


def test_hysteresis_makes_a_block_stay_or_stay_out():
    """Scores within 10 % of the threshold change nothing; further ones do."""
    model = nn.Sequential(nn.Linear(32, 32, bias=False))
    optimizer = torch.optim.SGD(model.parameters(), 1.0)
    config = ProcrustesConfig(
        0.5, block=16, update_every=1, probe_every=1, horizon=1.0, layer_floor=0.0, quantile=QuantileConfig("sort")
    )
    for outside, swaps in ((1.15, False), (1.35, True)):
        sparsifier = Procrustes(model, optimizer, config)
        weight = sparsifier.weights[0]
        sparsifier.before_step(0)
        kept = torch.tensor([[True, True], [False, False]])
        weight.set_kept(kept, 0.0, optimizer)
        model[0].weight.data.fill_(1.0)
        gradient = torch.tensor([[0.0, 0.0], [outside, 0.1]])
        scores = [sparsifier.score(weight, gradient, 0)]
        assert torch.equal(sparsifier.select(scores, 0.5)[0], kept) == (not swaps)


@pytest.mark.parametrize("kind", ["masked", "live"])
def test_compiled_models_train_alike(kind):
    """torch.compile without code generation: the graphs, guards and hooks are what could break."""
    losses = []
    for compiled in (False, True):
        model = network() if kind == "masked" else sparse_network()
        optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
        sparsifier = Procrustes(model, optimizer, ProcrustesConfig(**{**CONFIG, "decay": 0.5}))
        called = torch.compile(model, backend="aot_eager") if compiled else model
        losses.append(list(run(called, optimizer, sparsifier, range(14))))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    torch.compiler.reset()


@pytest.mark.parametrize("kind", ["masked", "live"])
def test_autocast_probes_agree_with_float32(kind):
    """bfloat16 products change a block's gradient norm by about 2^-8, and nothing else."""
    found = []
    for enabled in (False, True):
        model = network() if kind == "masked" else sparse_network()
        optimizer = torch.optim.AdamW(model.parameters(), 0.0)
        sparsifier = Procrustes(model, optimizer, ProcrustesConfig(**CONFIG, decay=0.0))
        for step in range(4):
            sparsifier.before_step(step)
            x, y = batch(step)
            with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
                loss = nn.functional.mse_loss(model(x).float(), y)
            loss.backward()
            optimizer.step()
            sparsifier.after_step(step)
            optimizer.zero_grad()
        found.append(sparsifier.gradients())
        assert all(p.dtype == torch.float32 for p in model.parameters())
    for exact, rounded in zip(*found, strict=True):
        assert exact.any()
        assert float((exact - rounded).norm() / exact.norm()) < 2**-6


def test_misuse_names_the_remedy():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    sparsifier = Procrustes(model, optimizer, ProcrustesConfig(**CONFIG))
    with pytest.raises(SparseError, match="load_state_dict"):
        sparsifier.before_step(3)
    sparsifier.before_step(0)
    model(batch(0)[0]).sum().backward()
    optimizer.zero_grad()
    with pytest.raises(SparseError, match="before zero_grad"):
        sparsifier.after_step(0)
    for wrong in ({"density": 0.0}, {"density": 1.5}, {"hysteresis": 1.0}, {"horizon": 0.0}, {"layer_floor": -0.1}):
        with pytest.raises(SparseError, match=next(iter(wrong))):
            ProcrustesConfig(**wrong)
    with pytest.raises(SparseError, match="multiple of probe_every"):
        Procrustes(model, optimizer, ProcrustesConfig(update_every=8, probe_every=3))
    with pytest.raises(SparseError, match="does not train"):
        Procrustes(model, torch.optim.SGD(model[2].parameters(), 0.1), ProcrustesConfig())
    with pytest.raises(SparseError, match="does not divide"):
        Procrustes(model, optimizer, ProcrustesConfig(block=7))
    with pytest.raises(SparseError, match="no weight"):
        Procrustes(model, optimizer, ProcrustesConfig(skip=("*",)))
    with pytest.raises(SparseError, match="does not fit"):
        other = Procrustes(model, optimizer, ProcrustesConfig(**{**CONFIG, "block": 16}))
        other.load_state_dict(sparsifier.state_dict())
    assert math.isclose(sparsifier.density(), 0.2, rel_tol=0.1)


def test_initial_values_decay_inside_stored_blocks_and_training_stays():
    """Without a gradient nothing is left in the end; with one, the sum of the updates."""
    model = sparse_network(headroom=9.0)
    optimizer = torch.optim.SGD(model.parameters(), 0.0)
    sparsifier = Procrustes(model, optimizer, ProcrustesConfig(**{**CONFIG, "stop_after": 0}, decay=0.5))
    start = None
    for step, _ in enumerate(run(model, optimizer, sparsifier, range(36))):
        if step == 0:
            start = [layer.to_dense().detach() for layer in (model[0], model[3])]
        for layer, first in zip((model[0], model[3]), start, strict=True):
            torch.testing.assert_close(layer.to_dense().detach(), first * 0.5**step, rtol=1e-5, atol=1e-8)
    assert not any(key.startswith("initial") for key in sparsifier.state_dict())
