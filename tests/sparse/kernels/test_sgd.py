"""sgd.cu against the float64 reference: on the CPU by its own source, on a GPU where one is."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from procosm.sparse import cpu, kernels, reference
from procosm.sparse.errors import SparseError
from tests.sparse.kernels.host_device import HostDevice


def test_sgd(place: Callable) -> None:
    row_ptr = torch.tensor([0, 2, 3], dtype=torch.int32)  # 3 live slots of 5
    start = torch.randn(3, 5, 16, 16, generator=torch.Generator().manual_seed(0)).unbind(0)
    truth, plain = [t.double().numpy() for t in start], [t.clone() for t in start]
    mine = [place(t) for t in start]
    for _ in range(3):
        reference.sgd(*truth, row_ptr.numpy(), 0.1, 0.9, 0.01)
        cpu.sgd(*plain, row_ptr, 0.1, 0.9, 0.01)
        kernels.sgd(*mine, place(row_ptr), 0.1, 0.9, 0.01)
    for got, dense, true, before in zip(mine, plain, truth, start, strict=True):
        budget = 2 * np.abs(dense.double().numpy() - true).max() + 1e-7 * np.abs(true).max()
        assert np.abs(got.cpu().double().numpy() - true).max() <= budget
        assert torch.equal(got.cpu()[3:], before[3:])


def test_bad_operands_say_what_to_do(host: HostDevice) -> None:
    values = torch.ones(2, 16, 16)
    with pytest.raises(SparseError, match="contiguous"):
        kernels.sgd(values, values.clone(), values.clone().transpose(1, 2), torch.zeros(2).int(), 0.1, 0.9, 0.0)
