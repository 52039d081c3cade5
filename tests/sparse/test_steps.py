"""Optimizer steps on live blocks and the log-histogram, against torch.optim and counting."""

import numpy as np
import pytest
import torch

from procosm.sparse import cpu, reference

ROW_PTR = torch.tensor([0, 2, 3], dtype=torch.int32)


def blocks(seed: int) -> torch.Tensor:
    values = torch.randn(5, 16, 16, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values[3:] = 0
    return values


@pytest.mark.parametrize("backend", [cpu, reference])
def test_adam_is_torch_adamw(backend) -> None:
    mine, m, v = blocks(0), torch.zeros(5, 16, 16).double(), torch.zeros(5, 16, 16).double()
    theirs = torch.nn.Parameter(blocks(0))
    optimizer = torch.optim.AdamW([theirs], lr=0.01, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1)
    for step in range(1, 5):
        theirs.grad = blocks(step)
        optimizer.step()
        tensors = [mine, blocks(step), m, v, ROW_PTR]
        if backend is reference:
            tensors = [t.numpy() for t in tensors]
        backend.adam(*tensors, 0.01, 0.8, 0.95, 1e-6, 0.1, step)
    torch.testing.assert_close(mine, theirs.detach())
    assert not mine[3:].any() and not m[3:].any()


@pytest.mark.parametrize("backend", [cpu, reference])
def test_sgd_is_torch_sgd(backend) -> None:
    mine, velocity = blocks(0), torch.zeros(5, 16, 16).double()
    theirs = torch.nn.Parameter(blocks(0))
    optimizer = torch.optim.SGD([theirs], lr=0.1, momentum=0.9, weight_decay=0.01)
    for step in range(1, 5):
        theirs.grad = blocks(step)
        optimizer.step()
        tensors = [mine, blocks(step), velocity, ROW_PTR]
        if backend is reference:
            tensors = [t.numpy() for t in tensors]
        backend.sgd(*tensors, 0.1, 0.9, 0.01)
    torch.testing.assert_close(mine, theirs.detach())


def test_padding_is_not_touched() -> None:
    mine, m, v, grad = (torch.full((5, 16, 16), float(k)) for k in (1, 2, 3, 4))
    cpu.adam(mine, grad, m, v, ROW_PTR, 0.1, 0.9, 0.99, 1e-8, 0.0, 1)
    cpu.sgd(mine, grad, m, ROW_PTR, 0.1, 0.9, 0.0)
    assert (mine[3:] == 1).all() and (m[3:] == 2).all() and (v[3:] == 3).all()


def test_histogram_on_tensors_is_the_reference() -> None:
    scores = torch.tensor([0.0, 1e-42, 1e-8, 1.0, 1.03, 1.0625, 3e38, float("inf")])
    assert np.array_equal(cpu.log_histogram(scores), reference.log_histogram(scores.numpy()))
    counts = reference.log_histogram(scores.numpy())
    assert counts[127 * 16] == 2 and counts[127 * 16 + 1] == 1  # 1.0 and 1.03 share a bin, 1 + 1/16 opens the next


def test_histogram_counts_negative_zero_as_zero() -> None:
    counts = cpu.log_histogram(torch.tensor([-0.0, 0.0, -0.0, 1.0]))
    assert counts.shape == (4096,) and counts[0] == 3 and counts[127 * 16] == 1
