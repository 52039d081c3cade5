"""What the action alone tells of the reward is fitted beforehand; what is left is learned in units of its own."""

from dataclasses import replace

import pytest
import torch

from procosm.world_model import registry
from procosm.world_model.data.batch import random_batch
from procosm.world_model.heads import OutcomeHead
from procosm.world_model.training.presets import preset
from tests.conftest import simulated_task

SHAPE = (2, 4, 4)


def logged(count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """(count, 2) actions, what they cost, and how far away something is, which they know nothing of."""
    g = torch.Generator().manual_seed(0)
    action, distance = torch.rand(count, 2, generator=g) * 2 - 1, torch.rand(count, generator=g)
    return action, 3.0 * action[:, 0] ** 2 + 0.5 * action[:, 1] ** 2, distance


def test_what_is_left_of_a_reward_is_what_the_action_does_not_tell():
    action, cost, distance = logged(20_000)
    head = OutcomeHead(SHAPE, 3, 2, cost=True)
    head.fit(-distance - cost, action)
    left = (-distance - cost - head.known(action)) / head.reward_std
    assert left.std().item() == pytest.approx(1.0, abs=0.01) and left.mean().abs() < 0.01
    assert torch.corrcoef(torch.stack([left, -distance]))[0, 1] > 0.999
    assert head.reward_std.item() == pytest.approx(distance.std().item(), rel=0.01)
    assert head.reward_cost.tolist() == pytest.approx([-3.0, -0.5], abs=0.02)
    plain = OutcomeHead(SHAPE, 3, 2)
    plain.fit(-distance - cost, action)
    assert torch.equal(plain.known(action), plain.reward_mean) and plain.reward_std > 3 * head.reward_std


def test_a_reward_that_actions_hardly_tell_stays_as_it_is():
    action, cost, distance = logged(60)
    head = OutcomeHead(SHAPE, 3, 2, cost=True)
    head.fit(-distance - cost, action)
    assert head.reward_cost.any()
    head.fit(-10 * distance - cost, action)  # another log
    assert not head.reward_cost.any() and torch.equal(head.known(action), head.reward_mean.expand(60))
    assert head.reward_std.item() == pytest.approx((10 * distance + cost).std().item())


@pytest.mark.parametrize("rewards", [torch.ones(100), torch.zeros(100)])
def test_rewards_that_do_not_vary_and_actions_that_are_not_told_give_numbers(rewards):
    head = OutcomeHead(SHAPE, 3, 2, cost=True)
    head.fit(rewards, torch.zeros(100, 2))
    assert torch.equal(head.known(torch.rand(5, 2)), rewards[:5]) and head.reward_std > 0


@pytest.mark.parametrize("signals", [{"reward"}, {"reward", "state"}, set()])
def test_only_models_that_learn_rewards_without_states_fit_it_and_tell_them_in_units_of_the_task(signals):
    whole = simulated_task("InvertedPendulum-v5", 64, 4)
    task = replace(whole, signals={name: signal for name, signal in whole.signals.items() if name in signals})
    made = preset("debug")
    _, dynamics = registry.untrained(task, made.tokenizer, made.dynamics)
    assert dynamics.config.action_cost == (signals == {"reward"})
    if not dynamics.config.action_cost:
        return
    actions, _, _ = logged(500)
    dynamics.outcome_head.fit(-2.0 * actions[:, 0] ** 2, dynamics.unit_action(actions[:, :1]))
    shape = tuple(dynamics.latent_shape)
    batch = random_batch(64, dynamics.context, 4, 1, {"reward": 1}, latent=shape)
    done = batch.actions[:, dynamics.context - 1 :, 0]
    window = dynamics.standardised(replace(batch, signals={"reward": -2.0 * done**2}))
    assert window.signals["reward"].abs().max() < 1e-2, "the action tells all of it"
    for last in dynamics.outcome_head.net[-1].parameters():
        last.data.zero_()
    reward, *_ = dynamics.outcome(
        batch.latents[:, 0], torch.zeros(64, dynamics.reader.size), batch.latents[:, 1:4], window.actions[:, -1]
    )
    assert torch.allclose(reward, -2.0 * done[:, -1] ** 2, atol=1e-3)


def test_a_log_with_states_takes_it_from_a_model_that_had_none():
    whole = simulated_task("InvertedPendulum-v5", 64, 4)
    blind = replace(whole, signals={name: signal for name, signal in whole.signals.items() if name != "state"})
    config = registry.untrained(blind, preset("debug").tokenizer, preset("debug").dynamics)[1].config
    assert config.action_cost
    goes_on = replace(config, readouts=("reward", "termination", "state"))
    assert not registry.untrained(whole, preset("debug").tokenizer, goes_on)[1].config.action_cost
