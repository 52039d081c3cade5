"""Nothing in a step waits for the device: what CUDA graphs, torch.compile and an idle-free GPU all need."""

import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from procosm import sparse
from procosm.sparse import kernels
from tests.sparse.kernels.host_device import HostDevice

READS = ("item", "tolist", "cpu", "numpy", "__int__", "__bool__", "__float__", "__index__", "__array__", "nonzero")


@pytest.mark.parametrize("capability", [(8, 0), (9, 0)])
def test_launching_reads_nothing_back(
    problem: Callable, host: HostDevice, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int]
) -> None:
    host.capability = capability
    p = problem(block=64, tokens=70, dtype=torch.bfloat16)
    w, x, grad = p.weight, p.x.contiguous(), p.grad.contiguous()
    state = [torch.randn(w.capacity, 64, 64) for _ in range(4)]
    for name in READS:
        monkeypatch.setattr(Tensor, name, lambda *_, n=name: pytest.fail(f"a launch calls Tensor.{n}"))
    kernels.forward(x, w.values, w.cols, w.row_ptr, p.bias)
    kernels.data_gradient(grad, w.values, w.rows, w.perm, w.col_ptr)
    kernels.weight_gradient(grad, x, w.rows, w.cols, w.row_ptr)
    kernels.block_norms(grad, x, w.rows, w.cols, 64)
    kernels.adam(*state, w.row_ptr, 0.1, 0.9, 0.99, 1e-8, 0.0, torch.ones(()))
    kernels.sgd(*state[:3], w.row_ptr, 0.1, 0.9, 0.0)
    assert host.launches >= 6


def network() -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    layers = [sparse.nn.Linear(512, 512, block=block, density=0.25, mode="sparse") for block in (64, 128)]
    return nn.Sequential(layers[0], nn.GELU(), layers[1]).cuda(), torch.randn(300, 512, device="cuda")


def step(net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor) -> Tensor:
    optimizer.zero_grad(set_to_none=False)
    with torch.autocast("cuda", torch.bfloat16):
        loss = (net(x) - x).square().mean()
    loss.backward()
    optimizer.step()
    return loss


@pytest.fixture
def on_gpu() -> None:
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")


@pytest.mark.gpu
def test_the_first_thing_that_autograd_does_may_be_a_sparse_product(on_gpu: None) -> None:
    code = (
        "import torch; from procosm import sparse\n"
        "layer = sparse.nn.Linear(512, 512, block=64, density=0.25, mode='sparse').cuda().bfloat16()\n"
        "x = torch.randn(300, 512, device='cuda', dtype=torch.bfloat16, requires_grad=True)\n"
        "layer(x).backward(torch.ones(300, 512, device='cuda', dtype=torch.bfloat16))\n"
        "assert x.grad.isfinite().all() and layer.values.grad.isfinite().all()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)


@pytest.mark.gpu
def test_a_step_never_synchronises(on_gpu: None) -> None:
    net, x = network()
    optimizer = sparse.optim.AdamW(net, 1e-3)
    step(net, optimizer, x)  # compiles and loads the kernels
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(net, optimizer, x)
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
def test_a_recorded_step_trains_like_an_ordinary_one(on_gpu: None) -> None:
    ordinary, x = network()
    optimizer = sparse.optim.AdamW(ordinary, 1e-3)
    losses = [step(ordinary, optimizer, x).item() for _ in range(8)]

    recorded, x = network()
    optimizer = sparse.optim.AdamW(recorded, 1e-3, capturable=True)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        mine = [step(recorded, optimizer, x).item() for _ in range(3)]
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = step(recorded, optimizer, x)
    for _ in range(5):
        graph.replay()
        mine.append(loss.item())
    assert mine == pytest.approx(losses, rel=1e-3) and losses[-1] < losses[0]


@pytest.mark.gpu
def test_a_compiled_step_trains_like_an_ordinary_one(on_gpu: None) -> None:
    ordinary, x = network()
    optimizer = sparse.optim.AdamW(ordinary, 1e-3)
    losses = [step(ordinary, optimizer, x).item() for _ in range(4)]
    compiled, x = network()
    optimizer = sparse.optim.AdamW(compiled, 1e-3)
    run = torch.compile(compiled, fullgraph=True)
    assert [step(run, optimizer, x).item() for _ in range(4)] == pytest.approx(losses, rel=1e-2)
