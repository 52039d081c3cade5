"""How much of a pattern may change at a time, and what a gradient is worth to an optimizer."""

import pytest
import torch
from torch import nn

from procosm.sparse.baselines import make
from procosm.sparse.convert import convert
from procosm.sparse.dropback import limited, step_size


def test_adams_step_size_is_what_a_gradient_of_usual_size_moves():
    torch.manual_seed(0)
    weight = nn.Parameter(torch.zeros(64, 64))
    optimizer = torch.optim.Adam([weight], 1e-3)
    for _ in range(300):
        weight.grad = 0.01 * torch.randn(64, 64)
        optimizer.step()
    before = weight.detach().clone()
    optimizer.state[weight]["exp_avg"].fill_(0.01)  # a gradient of that size, held
    weight.grad = torch.full((64, 64), 0.01)
    optimizer.step()
    moved = float((weight.detach() - before).square().mean().sqrt())
    assert step_size(optimizer, weight, 64 * 64) * 0.01 == pytest.approx(moved, rel=0.05)
    assert step_size(torch.optim.SGD([weight], 0.3), weight, 64 * 64) == 0.3


def test_the_exchange_is_limited_to_the_best():
    kept = torch.tensor([[True, True, True, True, False, False, False, False]])
    scores = torch.tensor([[4.0, 3.0, 2.0, 1.0, 5.0, 6.0, 7.0, 8.0]])
    expected = torch.tensor([[True, True, False, False, False, False, True, True]])
    assert torch.equal(limited(kept, ~kept, scores, 0.5), expected)
    assert torch.equal(limited(kept, ~kept, scores, 1.0), ~kept)
    assert torch.equal(limited(kept, kept, scores, 0.0), kept)
    assert limited(kept, torch.ones_like(kept), scores, 0.0).all()  # growth is no exchange
    assert torch.equal(limited(kept, ~kept, scores, 0.0), kept)
    one = limited(kept, ~kept, scores, 0.01)  # less than a block: one may change all the same
    assert (one != kept).sum() == 2 and one.sum() == kept.sum()


def test_a_training_exchanges_no_more_blocks_at_a_time_than_it_may():
    """Half of the inputs are dead, and with them half of the 16 kept blocks: a change replaces a quarter, no more."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(128, 128, bias=False))
    convert(model, 0.25, 16, keep="balanced")
    optimizer = torch.optim.SGD(model.parameters(), 1e-6)
    settings = {"update_every": 8, "probe_every": 8, "max_exchange": 0.25}
    sparsifier = make("procrustes", model, optimizer, density=0.25, **settings)
    x, replaced = torch.randn(64, 128) * (torch.arange(128) >= 64), []
    for step in range(20):
        before = model[0].kept().clone()
        sparsifier.before_step(step)
        model(x).square().sum().backward()
        optimizer.step()
        sparsifier.after_step(step)
        optimizer.zero_grad()
        added = int((model[0].kept() & ~before).sum())
        if step > 0 and added:
            replaced.append(added)
    assert replaced and max(replaced) == 4
