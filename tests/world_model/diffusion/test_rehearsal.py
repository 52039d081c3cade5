"""The step that tools time is a training step, and sparse where it is asked to be."""

import pytest
import torch

from procosm.world_model.diffusion.rehearsal import rehearse
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.sparsity import sparse_blocks

TINY = TransformerConfig(width=64, layers=1, heads=2, mlp_ratio=2, adaln_rank=4)


@pytest.mark.parametrize("density", [1.0, 0.25])
def test_a_step_trains_and_is_the_same_again(density):
    torch.manual_seed(0)
    step, window = rehearse(TINY, density, block=16, batch=4)
    adam = torch.optim.AdamW(step.parameters(), lr=1e-2)
    losses = []
    for _ in range(8):
        loss, metrics = step(window)
        assert torch.equal(loss, step(window)[0]) and metrics
        adam.zero_grad()
        loss.backward()
        adam.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    assert bool(sparse_blocks(step)) == (density < 1)


def test_the_network_follows_autocast():
    step, window = rehearse(TINY, 0.25, block=16, batch=4)
    for wanted in (True, False):
        with torch.autocast("cpu", torch.bfloat16, enabled=wanted):
            step(window)[0].backward()
        assert step.dynamics.mixed is wanted
