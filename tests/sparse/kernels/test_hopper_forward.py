"""hopper_forward.cu against float64 dense: on the CPU by its own source, on a GPU where one is."""

from collections.abc import Callable

import pytest
import torch

from procosm.sparse import kernels
from tests.sparse.kernels.host_device import HostDevice
from tests.sparse.oracle import close

# b = 64 takes 512 tokens at a time, b = 128 takes 256; the ring holds 3 and 4 stages.
CASES = [
    {"block": 64, "tokens": 1},
    {"block": 64, "tokens": 97},
    {"block": 64, "tokens": 600, "dtype": torch.float16},
    {"block": 64, "density": 0.0},
    {"block": 64, "density": 1.0, "grid": (4, 9)},
    {"block": 64, "density": 0.1, "grid": (9, 4), "tokens": 513},
    {"block": 128, "tokens": 1},
    {"block": 128, "tokens": 97, "grid": (2, 3)},
    {"block": 128, "tokens": 257, "grid": (3, 3), "density": 0.2},
    {"block": 128, "grid": (2, 4), "density": 1.0},
    {"block": 128, "density": 0.0, "dtype": torch.float16},
]


@pytest.mark.parametrize("case", CASES)
def test_hopper_forward(problem: Callable, on_hopper: Callable, case: dict) -> None:
    p = problem(**{"dtype": torch.bfloat16, **case})
    x, values, cols, row_ptr, bias = map(on_hopper, (p.x, p.weight.values, p.weight.cols, p.weight.row_ptr, p.bias))
    dense = p.x @ p.dense.to(p.x.dtype).t()
    truth = p.x.double() @ p.dense.t()
    close(kernels.forward(x, values, cols, row_ptr).cpu(), truth, dense)
    got = [kernels.forward(x, values, cols, row_ptr, bias).cpu() for _ in range(2)]
    close(got[0], truth + p.bias.double(), dense + p.bias)
    assert torch.equal(*got)


@pytest.mark.parametrize("block", [64, 128])
def test_early_and_late_copies_and_products_give_the_same_bits(
    problem: Callable, hopper: HostDevice, block: int
) -> None:
    p = problem(block=block, tokens=600, grid=(3, 4), density=0.7, dtype=torch.bfloat16)
    x, results = p.x.contiguous(), []
    for hopper.order in range(4):
        results.append(kernels.forward(x, p.weight.values, p.weight.cols, p.weight.row_ptr))
    assert all(torch.equal(results[0], other) for other in results[1:])
    assert hopper.names == ["hopper_forward"] * 4


def test_any_number_of_processors_gives_the_same_bits(problem: Callable, hopper: HostDevice) -> None:
    p = problem(block=64, tokens=1100, grid=(5, 3), density=0.5, dtype=torch.bfloat16)  # 3 tiles
    x, results = p.x.contiguous(), []
    for hopper.processors in (1, 4, 100):  # pairs of rows; pairs; single rows
        results.append(kernels.forward(x, p.weight.values, p.weight.cols, p.weight.row_ptr))
    assert all(torch.equal(results[0], other) for other in results[1:])
