"""sum_splits.cu against the reference: on the CPU by its own source, on a GPU where one is."""

from collections.abc import Callable

import pytest
import torch

from procosm.sparse import reference
from procosm.sparse.errors import SparseError
from procosm.sparse.kernels.sum_splits import sum_splits
from tests.sparse.kernels.host_device import HostDevice


@pytest.mark.parametrize("splits", [1, 2, 7])
def test_sum_splits(place: Callable, splits: int) -> None:
    partial = torch.randn(splits, 5, 16, 16, generator=torch.Generator().manual_seed(splits))
    row_ptr = torch.tensor([0, 2, 2, 3], dtype=torch.int32)
    dv = place(torch.full((5, 16, 16), float("nan")))
    partial[:, 3:] = float("nan")  # the padding of the parts is never written
    sum_splits(place(partial), dv, place(row_ptr))
    truth = reference.sum_splits(partial.double().numpy(), row_ptr.numpy())
    torch.testing.assert_close(dv.cpu().double(), torch.from_numpy(truth), rtol=1e-6, atol=1e-6)
    assert not dv.cpu()[3:].any()


def test_bad_operands_say_what_to_do(host: HostDevice) -> None:
    with pytest.raises(SparseError, match="convert it"):
        sum_splits(torch.zeros(2, 1, 16, 16).double(), torch.zeros(1, 16, 16), torch.zeros(2).int())
