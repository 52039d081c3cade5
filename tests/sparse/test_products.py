"""Forward, data gradient, weight gradient and block norms of reference.py and cpu.py against float64 dense products.

The error budget calibrates itself: no more than twice what dense torch loses in the same dtype on the same problem.
"""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from procosm import sparse
from procosm.sparse import autograd, cpu, matrix, reference
from procosm.sparse.errors import SparseError
from tests.sparse.oracle import blocks_of, close, norms_of

CASES = [
    {},
    {"tokens": 1},
    {"tokens": 97},
    {"tokens": 1031},
    {"density": 0.0},
    {"density": 1.0},
    {"density": 1 / 15},  # most rows and columns are empty
    {"grid": (1, 1), "density": 1.0},
    {"block": 32},
    {"block": 64},
    {"block": 128, "grid": (2, 3)},
]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_forward(problem: Callable, case: dict, dtype: torch.dtype) -> None:
    p = problem(dtype=dtype, **case)
    dense = p.dense.to(dtype)
    truth = p.x.double() @ p.dense.t()
    close(cpu.forward(p.x, p.weight.values, p.weight.cols, p.weight.row_ptr), truth, p.x @ dense.t())
    got = cpu.forward(p.x, p.weight.values, p.weight.cols, p.weight.row_ptr, p.bias)
    close(got, truth + p.bias.double(), p.x @ dense.t() + p.bias)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_data_gradient(problem: Callable, case: dict, dtype: torch.dtype) -> None:
    p = problem(dtype=dtype, **case)
    got = cpu.data_gradient(p.grad, p.weight.values, p.weight.rows, p.weight.perm, p.weight.col_ptr)
    # With AMX dense torch reads whole tiles, NaN beside a strided operand included.
    close(got, p.grad.double() @ p.dense, p.grad.contiguous() @ p.dense.to(dtype))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_weight_gradient(problem: Callable, case: dict, dtype: torch.dtype) -> None:
    p = problem(dtype=dtype, **case)
    got = cpu.weight_gradient(p.grad, p.x, p.weight.rows, p.weight.cols, p.weight.row_ptr)
    if p.weight.n:
        truth = p.grad.double().t() @ p.x.double()
        close(got, blocks_of(truth, p.weight), blocks_of(p.grad.t() @ p.x, p.weight))
    assert not got[p.weight.n :].any()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_block_norms(problem: Callable, case: dict, dtype: torch.dtype) -> None:
    p = problem(dtype=dtype, **case)
    rows, cols = (~matrix.kept_of(p.weight)).nonzero().to(torch.int32).unbind(1)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(1))  # any order is allowed
    rows, cols, b = rows[order], cols[order], p.weight.block
    got = cpu.block_norms(p.grad, p.x, rows, cols, b)
    assert got.dtype == torch.float32 and got.shape == rows.shape
    if len(rows):
        truth, dense = p.grad.double().t() @ p.x.double(), (p.grad.t() @ p.x).float()
        close(got, norms_of(truth, rows, cols, b), norms_of(dense, rows, cols, b))


@pytest.mark.parametrize("case", CASES)
def test_reference_is_the_dense_product(problem: Callable, case: dict) -> None:
    p = problem(dtype=torch.float64, **case)
    w, dense = p.weight, p.dense.numpy()
    values, rows, cols, row_ptr, perm, col_ptr, x, grad, bias = (
        t.numpy() for t in (w.values, w.rows, w.cols, w.row_ptr, w.perm, w.col_ptr, p.x, p.grad, p.bias)
    )
    np.testing.assert_allclose(reference.forward(x, values, cols, row_ptr, bias), x @ dense.T + bias, atol=1e-11)
    np.testing.assert_allclose(reference.data_gradient(grad, values, rows, perm, col_ptr), grad @ dense, atol=1e-11)
    whole = torch.from_numpy(grad.T @ x)
    dv = reference.weight_gradient(grad, x, rows, cols, row_ptr)
    np.testing.assert_allclose(dv, blocks_of(whole, w), atol=1e-11)
    norms = reference.block_norms(grad, x, rows[: w.n], cols[: w.n], w.block)
    np.testing.assert_allclose(norms, np.linalg.norm(dv[: w.n], axis=(1, 2)), atol=1e-10)


def test_repeatable_bit_for_bit(problem: Callable) -> None:
    p = problem(tokens=97, block=64, dtype=torch.bfloat16)
    runs = [cpu.forward(p.x, p.weight.values, p.weight.cols, p.weight.row_ptr, p.bias) for _ in range(2)]
    runs += [cpu.weight_gradient(p.grad, p.x, p.weight.rows, p.weight.cols, p.weight.row_ptr) for _ in range(2)]
    assert torch.equal(runs[0], runs[1]) and torch.equal(runs[2], runs[3])


def test_gradcheck(problem: Callable) -> None:
    p = problem(tokens=5, grid=(3, 2), dtype=torch.float64, density=0.5)
    index = matrix.layout(matrix.kept_of(p.weight), p.weight.capacity)
    inputs = [t.clone().requires_grad_() for t in (p.x, p.weight.values, p.bias)]

    def masked(x: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        return autograd.linear(x, values, index, bias)

    # Padding slots do not reach the output; their gradient is zero analytically and numerically.
    assert torch.autograd.gradcheck(masked, inputs)


def test_gradients_match_dense_autograd(problem: Callable) -> None:
    p = problem(tokens=34, dtype=torch.float64)
    x, values, bias = (t.clone().requires_grad_() for t in (p.x, p.weight.values, p.bias))
    index = matrix.layout(matrix.kept_of(p.weight), p.weight.capacity)
    autograd.linear(x.view(2, 17, -1), values, index, bias).backward(p.grad.reshape(2, 17, -1))
    dense, xd, bd = (t.clone().requires_grad_() for t in (p.dense, p.x, p.bias))
    torch.nn.functional.linear(xd, dense, bd).backward(p.grad)
    torch.testing.assert_close(x.grad, xd.grad)
    torch.testing.assert_close(bias.grad, bd.grad)
    torch.testing.assert_close(values.grad, blocks_of(dense.grad, p.weight))


def test_operators_satisfy_torch_library(problem: Callable) -> None:
    p = problem(tokens=5)
    w = p.weight
    x, values = p.x.clone().requires_grad_(), w.values.clone().requires_grad_()
    sink = torch.zeros(w.grid, requires_grad=True)
    probe = (~matrix.kept_of(w)).nonzero().to(torch.int32).t().contiguous()
    args = (x, values, w.rows, w.cols, w.row_ptr, w.perm, w.col_ptr, p.bias, sink, probe[0], probe[1])
    torch.library.opcheck(torch.ops.procosm_sparse.forward, args)
    index = (w.rows, w.perm, w.col_ptr)
    torch.library.opcheck(torch.ops.procosm_sparse.data_gradient, (p.grad.contiguous(), w.values, *index))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: {"x": p.x[:, :-1]}, "check the layer before"),
        (lambda p: {"x": p.x[0, 0]}, "single number"),
        (lambda p: {"x": p.x.int()}, "convert it"),
        (lambda p: {"x": p.x.bfloat16()}, "autocast"),
        (lambda p: {"x": p.x.to("meta")}, "move one"),
        (lambda p: {"bias": p.bias[:-1]}, "pass"),
        (lambda p: {"bias": p.bias.double()}, "convert one"),
    ],
)
def test_bad_operands_say_what_to_do(problem: Callable, change: Callable, message: str) -> None:
    p = problem()
    operands = {"x": p.x, "values": p.weight.values, "index": p.weight, "bias": p.bias, **change(p)}
    with pytest.raises(SparseError, match=message):
        autograd.linear(**operands)


def test_unknown_device_says_what_to_do() -> None:
    with pytest.raises(SparseError, match="no kernels for device meta"):
        autograd.backend(torch.empty(1, device="meta"))


def test_a_second_derivative_is_refused_not_left_out() -> None:
    layer = sparse.nn.Linear(32, 32, block=16, density=0.5, mode="sparse")
    x = torch.randn(4, 32, requires_grad=True)
    (first,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    with pytest.raises(sparse.SparseError, match="differentiated once"):
        first.sum().backward()
