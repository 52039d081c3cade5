"""Layers against torch's own dense layers with the same weights, and every way a model is trained."""

import copy
import math
from pathlib import Path

import pytest
import torch

from procosm.sparse import matrix, nn
from procosm.sparse.errors import SparseError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(mode: str = "sparse", capacity: int | None = None, **kwargs) -> nn.Linear:
    settings = {"block": 16, "density": 0.4, "generator": generator(), **kwargs}
    return nn.Linear(48, 80, capacity=capacity, mode=mode, **settings)


@pytest.mark.parametrize("mode", ["sparse", "dense", "auto"])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_is_the_dense_layer_of_its_weight(mode: str, bias: bool) -> None:
    layer = linear(mode, bias=bias).double()
    x = torch.randn(2, 7, 48, generator=generator(1)).double().requires_grad_()
    upstream = torch.randn(2, 7, 80, generator=generator(2)).double()
    dense, xd = layer.to_dense().detach().requires_grad_(), x.detach().clone().requires_grad_()
    y = layer(x)
    y.backward(upstream)
    expected = torch.nn.functional.linear(xd, dense, layer.bias)
    expected.backward(upstream)
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(x.grad, xd.grad)
    tiles = matrix.from_dense(dense.grad, layer.kept(), 16, layer.capacity)
    torch.testing.assert_close(layer.values.grad, tiles.values)


def test_density_one_starts_with_the_spread_of_nn_linear() -> None:
    layer = nn.Linear(256, 256, block=16, density=1.0, generator=generator())
    assert layer.values.abs().max() <= 1 / math.sqrt(256)
    sparse = nn.Linear(256, 256, block=16, density=0.25, generator=generator())
    x = torch.randn(512, 256, generator=generator(1))
    assert sparse(x).std().item() == pytest.approx(layer(x).std().item(), rel=0.1)


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("geometry", [(3, 1, 1, 1), (3, 2, 1, 1), (2, 2, 0, 1), (3, 1, 2, 2), (1, 1, 0, 1)])
def test_convolution_is_torchs(dims: int, geometry: tuple[int, ...]) -> None:
    kernel, stride, padding, dilation = geometry
    sparse_type = {2: nn.Conv2d, 3: nn.Conv3d}[dims]
    torch_function = {2: torch.nn.functional.conv2d, 3: torch.nn.functional.conv3d}[dims]
    layer = sparse_type(16, 32, *geometry, block=16, density=0.5, mode="sparse", generator=generator()).double()
    x = torch.randn(2, 16, *(7, 6, 5)[:dims], generator=generator(1)).double().requires_grad_()
    y = layer(x)
    weight = layer.weight
    assert weight.shape == (32, 16, *[kernel] * dims)
    expected = torch_function(x, weight, layer.bias, stride, padding, dilation)
    torch.testing.assert_close(y, expected)
    upstream = torch.randn(y.shape, generator=generator(2)).double()
    mine = torch.autograd.grad(y, (x, layer.values), upstream)
    theirs = torch.autograd.grad(expected, (x, layer.values), upstream)
    torch.testing.assert_close(mine, theirs)


def test_anisotropic_convolution() -> None:
    layer = nn.Conv3d(16, 16, (1, 3, 2), (1, 2, 1), (0, 1, 0), block=16, density=0.7, generator=generator())
    x = torch.randn(1, 16, 3, 8, 5, generator=generator(1))
    expected = torch.nn.functional.conv3d(x, layer.weight, layer.bias, (1, 2, 1), (0, 1, 0))
    torch.testing.assert_close(layer(x), expected)


def test_set_kept_moves_blocks_gradients_and_names_the_slots() -> None:
    layer = linear(capacity=12)
    layer(torch.randn(9, 48, generator=generator(1))).square().sum().backward()
    before, gradient = layer.to_dense().detach(), layer.values.grad.clone()
    old, mask = layer.kept(), matrix.random_kept((80, 48), 16, 0.7, generator(5))
    source = layer.set_kept(mask, new_values=2.0)
    matrix.validate(layer.as_matrix())
    assert torch.equal(layer.kept(), mask) and layer.live_blocks == int(mask.sum())
    spread = [m.repeat_interleave(16, 0).repeat_interleave(16, 1) for m in (mask & old, mask & ~old)]
    assert torch.equal(layer.to_dense(), before * spread[0] + 2.0 * spread[1])
    assert torch.equal(layer.values.grad, matrix.carry(gradient, source))
    assert int((source >= 0).sum()) == int((mask & old).sum())


def test_set_kept_takes_fresh_values_from_a_dense_weight() -> None:
    layer = linear(capacity=15)
    before, old, start = layer.to_dense().detach(), layer.kept(), torch.randn(80, 48, generator=generator(3))
    layer.set_kept(torch.ones(5, 3, dtype=torch.bool), new_values=start)
    survived = old.repeat_interleave(16, 0).repeat_interleave(16, 1)
    assert torch.equal(layer.to_dense(), torch.where(survived, before, start))


def test_probe_and_armed_backward_give_the_norms_of_the_dense_gradient() -> None:
    layer = linear("auto").double()
    x = torch.randn(3, 11, 48, generator=generator(1)).double()
    upstream = torch.randn(3, 11, 80, generator=generator(2)).double()
    dense = upstream.flatten(0, 1).t() @ x.flatten(0, 1)
    norms = dense.unflatten(0, (5, 16)).unflatten(2, (3, 16)).square().sum((1, 3)).sqrt() * ~layer.kept()
    torch.testing.assert_close(layer.probe(x, upstream), norms.float())
    layer.arm()
    layer(x).backward(upstream)
    torch.testing.assert_close(layer.take_norms(), norms.float())
    where = torch.zeros(5, 3, dtype=torch.bool)
    where[2:4] = True
    layer.arm(where)
    layer(x).backward(upstream)
    torch.testing.assert_close(layer.take_norms(), norms.float() * where)
    with pytest.raises(SparseError, match="call arm"):
        layer.take_norms()


@pytest.mark.filterwarnings("ignore:.torch.jit.script")  # torch loads its rules for forward mode so
@pytest.mark.parametrize("mode", ["sparse", "dense", "auto"])
def test_forward_mode_gives_the_directional_derivative(mode: str) -> None:
    """In the input and in the values at once, against the difference quotient; jacfwd and jvp of a gradient as well."""
    layer = linear(mode, capacity=12).double()
    x, dx = (torch.randn(3, 48, generator=generator(s)).double() for s in (1, 2))
    values = layer.values.detach()
    dv = torch.randn(values.shape, generator=generator(3)).double() * matrix.live(layer.index).view(-1, 1, 1)

    def call(x: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
        return torch.func.functional_call(layer, {"values": values}, (x,)).sin()

    _, tangent = torch.func.jvp(call, (x, values), (dx, dv))
    quotient = (call(x + 1e-6 * dx, values + 1e-6 * dv) - call(x - 1e-6 * dx, values - 1e-6 * dv)) / 2e-6
    torch.testing.assert_close(tangent, quotient, rtol=1e-6, atol=1e-8)
    torch.testing.assert_close(torch.func.jacfwd(layer)(x[0]), layer.to_dense())
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, dx)
        moved = torch.autograd.forward_ad.unpack_dual(layer(dual)).tangent
    torch.testing.assert_close(moved, dx @ layer.to_dense().T)


@pytest.mark.filterwarnings("ignore:.torch.jit.script")  # torch loads its rules for forward mode so
def test_an_armed_layer_does_not_measure_in_forward_mode() -> None:
    layer, x = linear(), torch.ones(2, 48)
    layer.arm()
    with pytest.raises(SparseError, match="take_norms"):
        torch.func.jvp(layer, (x,), (x,))


def test_autocast_runs_in_bfloat16_and_leaves_float32_gradients() -> None:
    layer, x = linear(), torch.randn(17, 48, generator=generator(1))
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        reference = torch.nn.functional.linear(x, layer.to_dense(), layer.bias)
    assert y.dtype == torch.bfloat16
    truth = torch.nn.functional.linear(x.double(), layer.to_dense().double(), layer.bias.double())
    assert (y - truth).abs().max() <= 2 * (reference - truth).abs().max()
    y.float().square().sum().backward()
    assert layer.values.grad.dtype == torch.float32 and layer.bias.grad.dtype == torch.float32


def test_compiles_without_a_graph_break_and_survives_new_patterns() -> None:
    layer, x = linear(capacity=12), torch.randn(9, 48, generator=generator(1))
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    for mask in (layer.kept(), matrix.random_kept((80, 48), 16, 0.8, generator(4))):
        layer.set_kept(mask, new_values=0.5)
        for mode in ("sparse", "dense", "auto"):
            layer.mode = mode
            gradients = []
            for call in (compiled, layer):
                layer.zero_grad()
                y = call(x)
                y.square().sum().backward()
                gradients.append((y.detach(), layer.values.grad.clone()))
            torch.testing.assert_close(*gradients)
    layer.mode = "sparse"
    layer.arm()
    compiled(x).square().sum().backward()
    armed = layer.take_norms()
    torch.testing.assert_close(armed, layer.probe(x, 2 * layer(x).detach()))


def test_state_dict_holds_live_blocks_only_and_loads_into_any_capacity() -> None:
    layer, roomy = linear(capacity=10), linear(capacity=15, density=1.0)
    state = layer.state_dict()
    assert {k: tuple(v.shape) for k, v in state.items()} == {
        "values": (6, 16, 16), "rows": (6,), "cols": (6,), "shape": (2,), "bias": (80,),
    }  # fmt: skip
    assert state["rows"].dtype == torch.int32
    roomy.load_state_dict(state)
    matrix.validate(roomy.as_matrix())
    assert torch.equal(roomy.to_dense(), layer.to_dense()) and roomy.live_blocks == 6


def test_state_dict_travels_through_safetensors(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    model = torch.nn.Sequential(linear(), torch.nn.ReLU(), nn.Linear(80, 16, block=16, density=0.5))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    other = torch.nn.Sequential(
        linear(generator=generator(9)), torch.nn.ReLU(), nn.Linear(80, 16, block=16, density=0.5)
    )
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    x = torch.randn(3, 48, generator=generator(1))
    assert torch.equal(model(x), other(x))


def roomy() -> torch.nn.Sequential:
    """Layers with eight slots for each live block, one of them in two places, one without any live block."""
    shared = nn.Linear(128, 128, block=16, density=0.125, capacity=64)
    empty = nn.Linear(128, 128, block=16, density=0.125, capacity=64)
    empty.set_kept(torch.zeros(8, 8, dtype=torch.bool))
    return torch.nn.Sequential(shared, torch.nn.ReLU(), shared, empty)


def test_save_model_and_torch_save_store_live_blocks_alone(tmp_path: Path) -> None:
    from safetensors.torch import load_model, save_model

    model, other, third = roomy(), roomy(), roomy()
    save_model(model, str(tmp_path / "model.safetensors"))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    assert load_model(other, str(tmp_path / "model.safetensors")) == (set(), [])
    third.load_state_dict(torch.load(tmp_path / "model.pt"))
    x = torch.randn(3, 128)
    assert torch.equal(other(x), model(x)) and torch.equal(third(x), model(x))
    live = 2 * 8 * 16 * 16 * 4  # the shared layer under both its names
    for name in ("model.safetensors", "model.pt"):
        assert (tmp_path / name).stat().st_size < live + 8192


def test_the_state_dict_of_a_full_layer_shares_its_memory() -> None:
    layer = linear()
    assert layer.state_dict()["values"].data_ptr() == layer.values.data_ptr()
    assert layer.state_dict(keep_vars=True)["values"] is layer.values


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (lambda: nn.Linear(96, 96, block=32, density=0.4), "build it with those sizes"),
        (lambda: nn.Linear(64, 64, block=32, density=1.0), "blocks of 16"),
        (lambda: nn.Linear(64, 64, block=16, density=0.1), "larger capacity"),
    ],
)
def test_a_checkpoint_that_does_not_fit_is_an_error(target, message: str) -> None:
    state = nn.Linear(64, 64, block=16, density=0.5, generator=generator()).state_dict()
    with pytest.raises(RuntimeError, match=message):
        target().load_state_dict(state)


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {"rows": s["rows"] + 9},
        lambda s: {"cols": s["cols"] - 9},
        lambda s: {"rows": s["rows"].flip(0), "cols": s["cols"].flip(0), "values": s["values"].flip(0)},
        lambda s: {"rows": s["rows"] * 0, "cols": s["cols"] * 0},
        lambda s: {"rows": s["rows"][:-1], "cols": s["cols"][:-1]},
    ],
)
def test_a_checkpoint_whose_index_is_damaged_is_an_error(change) -> None:
    state = linear().state_dict()
    with pytest.raises(RuntimeError, match="restore it"):
        linear().load_state_dict({**state, **change(state)})


def test_a_dense_checkpoint_says_when_to_load_it() -> None:
    with pytest.raises(RuntimeError, match=r"load it into the model before sparse\.convert"):
        torch.nn.Sequential(linear()).load_state_dict(torch.nn.Sequential(torch.nn.Linear(48, 80)).state_dict())


@pytest.mark.parametrize(
    ("shape", "message"),
    [((2, 8, 5, 5), "takes"), ((2, 16, 5), "takes"), ((16, 5, 5), "takes"), ((2, 16, 2, 5), "smaller than")],
)
def test_a_convolution_names_what_does_not_fit(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(SparseError, match=message):
        nn.Conv2d(16, 16, 3, block=16, density=0.5)(torch.zeros(shape))


def test_missing_and_unknown_entries_are_errors() -> None:
    layer = linear()
    state = layer.state_dict()
    with pytest.raises(RuntimeError, match="Unexpected"):
        layer.load_state_dict({**state, "weight": torch.ones(1)})
    del state["rows"]
    with pytest.raises(RuntimeError, match="Missing"):
        layer.load_state_dict(state)


def test_trains_with_clipping_and_adamw_exactly_like_masked_dense() -> None:
    layer = linear().double()
    start = layer.to_dense().detach().clone()
    mask = layer.kept().repeat_interleave(16, 0).repeat_interleave(16, 1)
    dense = torch.nn.Parameter(start.clone())
    bias = torch.nn.Parameter(layer.bias.detach().clone())
    optimizers = [torch.optim.AdamW(p, lr=0.05) for p in (list(layer.parameters()), [dense, bias])]
    x, target = (
        torch.randn(64, 48, generator=generator(1)).double(),
        torch.randn(64, 80, generator=generator(2)).double(),
    )
    losses = []
    for _ in range(5):
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss = (layer(x) - target).square().mean()
        loss.backward()
        (torch.nn.functional.linear(x, dense * mask, bias) - target).square().mean().backward()
        norms = [torch.nn.utils.clip_grad_norm_(p, 0.1) for p in (layer.parameters(), [dense, bias])]
        torch.testing.assert_close(*norms)
        for optimizer in optimizers:
            optimizer.step()
        losses.append(loss.item())
    torch.testing.assert_close(layer.to_dense(), (dense * mask).detach())
    assert losses[-1] < losses[0]
    matrix.validate(layer.as_matrix())  # the padding is still zero


def test_copies_are_independent() -> None:
    layer = linear(capacity=12)
    twin = copy.deepcopy(layer)
    twin.set_kept(torch.zeros(5, 3, dtype=torch.bool))
    assert twin.live_blocks == 0 and layer.live_blocks == 6
    assert torch.equal(twin(torch.ones(2, 48)), layer.bias.expand(2, 80))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: linear(density=0.0), "outside"),
        (lambda: linear(density=1.1), "outside"),
        (lambda: linear(block=64), "use block=16"),
        (lambda: nn.Linear(50, 80), "leave it dense"),
        (lambda: linear("fast"), "choose one of"),
        (lambda: linear(capacity=2), "does not hold"),
        (lambda: linear()(torch.ones(2, 47)), "layer before"),
        (lambda: linear()(torch.ones(2, 48, device="meta")), "move one"),
        (lambda: linear().set_kept(torch.ones(5, 3, dtype=torch.bool)), "capacity=15"),
        (lambda: linear().set_kept(torch.ones(3, 5, dtype=torch.bool)), "one entry a block"),
    ],
)
def test_bad_input_says_what_to_do(call, message: str) -> None:
    with pytest.raises(SparseError, match=message):
        call()


def ddp_worker(rank: int, folder: str) -> None:
    import torch.distributed as dist

    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    layer = linear()
    replica = torch.nn.parallel.DistributedDataParallel(layer)
    x = torch.randn(2, 5, 48, generator=generator(1))
    replica(x[rank]).square().sum().backward()
    torch.save(layer.values.grad, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_distributed_data_parallel_averages_block_gradients(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(ddp_worker, (str(tmp_path),), nprocs=2)
    layer, x = linear(), torch.randn(2, 5, 48, generator=generator(1))
    layer(x).square().sum().backward()
    for rank in range(2):
        torch.testing.assert_close(torch.load(tmp_path / f"{rank}.pt"), layer.values.grad / 2)
