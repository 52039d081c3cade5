"""What a step of post-training keeps in memory, against what the sizes of the layers say."""

import pytest

from procosm.benchmarks.machine.post_training_memory import bytes_of_a_step
from tests.conftest import restless_model, simulated_task


@pytest.mark.parametrize("rank", [2, 4])
def test_low_rank_updates_take_gradients_and_optimizer_state_of_their_factors_alone(rank):
    def dynamics():
        return restless_model(simulated_task("Any-v0", 32, 2)).dynamics.requires_grad_(True)

    made = dynamics()
    full, low = bytes_of_a_step(dynamics(), None), bytes_of_a_step(dynamics(), rank)
    # Adam keeps two numbers for each weight, and a count for each tensor.
    assert full["weights"] == full["gradients"] == pytest.approx(full["optimizer's state"] / 2, rel=0.02)
    block = made.net.blocks[0]
    layers = (block.attention.qkv, block.attention.out, block.mlp[0], block.mlp[2])
    factors = sum(rank * sum(layer.weight.shape) for layer in layers)
    action = sum(each.numel() for each in made.net.action.parameters())
    assert low["gradients"] == 4 * (factors + action)
    assert low["weights"] == full["weights"] + 4 * factors
