"""log_histogram.cu against NumPy: on the CPU by its own source, on a GPU where one is."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from procosm.sparse import kernels, quantile, reference
from procosm.sparse.errors import SparseError
from tests.sparse.kernels.host_device import HostDevice


@pytest.mark.parametrize("count", [0, 1, 97, 5000])
def test_log_histogram(place: Callable, count: int) -> None:
    scores = torch.randn(count, generator=torch.Generator().manual_seed(0)).exp()
    counts = kernels.log_histogram(place(scores)).cpu()
    assert np.array_equal(counts, reference.log_histogram(scores.numpy()))


def test_minus_zero_counts_as_zero_and_stays_within_the_table(place: Callable) -> None:
    counts = kernels.log_histogram(place(torch.tensor([-0.0, 0.0, 1.0, -0.0]))).cpu()
    assert counts[0] == 3 and counts.sum() == 4


def test_bad_scores_say_what_to_do(host: HostDevice) -> None:
    with pytest.raises(SparseError, match="convert it"):
        kernels.log_histogram(torch.ones(4).double())


@pytest.mark.parametrize("sizes", [None, torch.tensor([256, 1024] * 1000)])
def test_the_threshold_stands_on_the_kernel(
    host: HostDevice, monkeypatch: pytest.MonkeyPatch, sizes: torch.Tensor | None
) -> None:
    scores = torch.randn(2000, generator=torch.Generator().manual_seed(1)).exp()
    budget = 200 if sizes is None else 200 * 640
    expected = quantile.histogram(scores, budget, sizes)
    monkeypatch.setattr(quantile, "backend", lambda tensor: kernels)  # what a CUDA tensor gets
    assert torch.equal(quantile.histogram(scores, budget, sizes), expected)
