"""hopper_weight_gradient.cu and sum_splits.cu against float64 dense: on the CPU by their own source, or on a GPU."""

from collections.abc import Callable

import pytest
import torch

from procosm.sparse import kernels
from procosm.sparse.kernels import hopper as cutting
from procosm.sparse.kernels import hopper_weight_gradient as binding
from tests.sparse.kernels.host_device import HostDevice
from tests.sparse.kernels.test_hopper_forward import CASES
from tests.sparse.oracle import blocks_of, close

LONG_ROWS = {"block": 64, "grid": (2, 12), "density": 0.9, "tokens": 130}  # runs of 8 and what is left of a row


@pytest.mark.parametrize("case", [*CASES, LONG_ROWS])
def test_hopper_weight_gradient(problem: Callable, on_hopper: Callable, case: dict) -> None:
    p = problem(**{"dtype": torch.bfloat16, **case})
    w = p.weight
    operands = [on_hopper(t) for t in (p.grad, p.x, w.rows, w.cols, w.row_ptr)]
    got = [kernels.weight_gradient(*operands).cpu() for _ in range(2)]
    if w.n:
        close(got[0], blocks_of(p.grad.double().t() @ p.x.double(), w), blocks_of(p.grad.t() @ p.x, w))
    assert not got[0][w.n :].any() and torch.equal(*got)


@pytest.mark.parametrize(("together", "splits"), [(1, 1), (2, 3), (8, 1), (8, 2), (4, 7)])
def test_every_way_to_cut_the_work_gives_the_gradient(
    problem: Callable, hopper: HostDevice, monkeypatch: pytest.MonkeyPatch, together: int, splits: int
) -> None:
    # 300 tokens are 5 stages: seven ranges leave two without any.
    monkeypatch.setattr(binding, "cut", lambda *sizes: (together, splits))
    p = problem(**LONG_ROWS | {"tokens": 300}, dtype=torch.bfloat16)
    w, grad, x, results = p.weight, p.grad.contiguous(), p.x.contiguous(), []
    for hopper.order in range(4):
        results.append(kernels.weight_gradient(grad, x, w.rows, w.cols, w.row_ptr))
    close(results[0], blocks_of(p.grad.double().t() @ p.x.double(), w), blocks_of(p.grad.t() @ p.x, w))
    assert all(torch.equal(results[0], other) for other in results[1:])
    assert hopper.names == (["hopper_weight_gradient"] + ["sum_splits"] * (splits > 1)) * 4


@pytest.mark.parametrize("processors", [1, 3, 132])
@pytest.mark.parametrize("block", [64, 128])
@pytest.mark.parametrize("entries", [1, 37, 4000])
def test_cutting_leaves_no_processor_idle_without_need(entries: int, block: int, processors: int) -> None:
    together, splits = cutting.cut(8192, entries, 64, block, processors, 16)
    items = -(-entries // together) * splits
    assert 1 <= together <= cutting.MOST[block] and 1 <= splits <= 16
    assert items >= min(processors, entries)
    if processors == 1:
        assert splits == 1, "parts would only have to be added up"
