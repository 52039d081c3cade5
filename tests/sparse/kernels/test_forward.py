"""forward.cu against float64 dense: on the CPU by its own source, on a GPU where one is."""

from collections.abc import Callable

import pytest
import torch

from procosm.sparse import kernels
from procosm.sparse.errors import SparseError
from tests.sparse.kernels.host_device import HostDevice
from tests.sparse.oracle import close

CASES = [
    {},
    {"tokens": 1},
    {"tokens": 97},
    {"density": 0.0},
    {"density": 1.0},
    {"density": 1 / 15},
    {"grid": (4, 3)},  # an even number of rows: no row is alone
    {"block": 32},
    {"block": 64, "dtype": torch.float16},
    {"block": 128, "grid": (2, 1), "density": 1.0},
    {"block": 128, "grid": (2, 1), "density": 0.5, "dtype": torch.float32},
    {"dtype": torch.float32, "tokens": 65},
]


@pytest.mark.parametrize("case", CASES)
def test_forward(problem: Callable, place: Callable, case: dict) -> None:
    p = problem(**{"dtype": torch.bfloat16, **case})
    x, values, cols, row_ptr, bias = map(place, (p.x, p.weight.values, p.weight.cols, p.weight.row_ptr, p.bias))
    dense = p.x @ p.dense.to(p.x.dtype).t()
    truth = p.x.double() @ p.dense.t()
    close(kernels.forward(x, values, cols, row_ptr).cpu(), truth, dense)
    got = [kernels.forward(x, values, cols, row_ptr, bias).cpu() for _ in range(2)]
    close(got[0], truth + p.bias.double(), dense + p.bias)
    assert torch.equal(*got)


def test_any_order_of_threads_gives_the_same_bits(problem: Callable, host: HostDevice) -> None:
    p = problem(block=32, dtype=torch.bfloat16)
    x = p.x.contiguous()
    results = []
    for host.order in range(4):
        results.append(kernels.forward(x, p.weight.values, p.weight.cols, p.weight.row_ptr))
    assert all(torch.equal(results[0], other) for other in results[1:]) and host.launches == 4


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("x", lambda t: t[:, :-1].contiguous(), "needed"),
        ("x", lambda t: t.double(), "convert it"),
        ("values", lambda t: t.half(), "convert it"),
        ("values", lambda t: t.to("meta"), "move it"),
        ("bias", lambda t: t[:-1], "needed"),
    ],
)
def test_bad_operands_say_what_to_do(
    problem: Callable, host: HostDevice, name: str, spoil: Callable, message: str
) -> None:
    p = problem()
    operands = {"x": p.x.contiguous(), "values": p.weight.values, "bias": p.bias}
    operands[name] = spoil(operands[name])
    with pytest.raises(SparseError, match=message):
        kernels.forward(operands["x"], operands["values"], p.weight.cols, p.weight.row_ptr, operands["bias"])


def test_cpu_tensors_are_refused_by_the_real_launcher(problem: Callable) -> None:
    p = problem()
    with pytest.raises(SparseError, match="CUDA device"):
        kernels.forward(p.x.contiguous(), p.weight.values, p.weight.cols, p.weight.row_ptr)
