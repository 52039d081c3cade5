"""adam.cu against the float64 reference: on the CPU by its own source, on a GPU where one is."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from procosm.sparse import cpu, kernels, reference
from procosm.sparse.errors import SparseError
from tests.sparse.kernels.host_device import HostDevice

SCALARS = (0.01, 0.8, 0.95, 1e-6, 0.1)


def operands(seed: int) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values, grad, m, v = torch.randn(4, 5, 16, 16, generator=generator)
    return [values, grad, m, v.abs()]


def test_adam(place: Callable) -> None:
    row_ptr = torch.tensor([0, 2, 3], dtype=torch.int32)  # 3 live slots of 5
    truth = [t.double().numpy() for t in operands(0)]
    plain, mine = operands(0), [place(t) for t in operands(0)]
    for step in (1, 2, 3):
        reference.adam(*truth, row_ptr.numpy(), *SCALARS, step)
        cpu.adam(*plain, row_ptr, *SCALARS, step)
        kernels.adam(*mine, place(row_ptr), *SCALARS, step)
    for got, dense, true, start in zip(mine, plain, truth, operands(0), strict=True):
        budget = 2 * np.abs(dense.double().numpy() - true).max() + 1e-7 * np.abs(true).max()
        assert np.abs(got.cpu().double().numpy() - true).max() <= budget
        assert torch.equal(got.cpu()[3:], start[3:])


def test_bad_operands_say_what_to_do(host: HostDevice) -> None:
    values, grad, m, v = operands(0)
    row_ptr = torch.tensor([0, 5], dtype=torch.int32)
    with pytest.raises(SparseError, match="convert it"):
        kernels.adam(values, grad.bfloat16(), m, v, row_ptr, *SCALARS, 1)
    with pytest.raises(SparseError, match="needed"):
        kernels.adam(values, grad, m[:4], v, row_ptr, *SCALARS, 1)


@pytest.mark.parametrize("length", [1, 3, 4, 1030])
def test_a_parameter_of_any_length_is_stepped_whole(place: Callable, length: int) -> None:
    truth = [t.flatten()[:length].double().view(1, 1, -1).numpy() for t in operands(1)]
    mine = [place(t.flatten()[:length].view(1, 1, -1)) for t in operands(1)]
    row_ptr = torch.tensor([0, 1], dtype=torch.int32)
    reference.adam(*truth, row_ptr.numpy(), *SCALARS, 1)
    kernels.adam(*mine, place(row_ptr), *SCALARS, 1)
    for got, true in zip(mine, truth, strict=True):
        np.testing.assert_allclose(got.cpu().double().numpy(), true, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("beta2", [0.0, 0.95, 0.999])
def test_steps_counted_on_the_device_are_the_hosts(place: Callable, beta2: float) -> None:
    scalars = (0.01, 0.8, beta2, 1e-6, 0.1)
    row_ptr = place(torch.tensor([0, 5], dtype=torch.int32))
    on_host, on_device = ([place(t) for t in operands(2)] for _ in range(2))
    count = torch.zeros((), device=row_ptr.device)
    for step in (1, 2, 3):
        count += 1
        kernels.adam(*on_host, row_ptr, *scalars, step)
        kernels.adam(*on_device, row_ptr, *scalars, count)
    for got, wanted in zip(on_device, on_host, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-6)
