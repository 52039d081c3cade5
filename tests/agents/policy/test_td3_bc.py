"""TD3+BC against the paper's equations written out, and on logs whose best action is known."""

from dataclasses import dataclass, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import TD3

from procosm.agents.policy.baselines import td3_bc
from procosm.agents.policy.baselines.td3_bc import ALPHA, actor_loss, batches, learn_td3_bc, target


class Bandit(gym.Env):
    """Says what is seen and done; never stepped."""

    observation_space = gym.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gym.spaces.Box(-2, 2, (1,), np.float32)


@dataclass(frozen=True)
class Log:
    """As a log is seen: one step an episode, action uniform in its own units."""

    seen: torch.Tensor
    actions: torch.Tensor
    rewards: torch.Tensor
    after: torch.Tensor
    ends: torch.Tensor


@pytest.fixture
def log() -> Log:
    generator = torch.Generator().manual_seed(0)
    seen = torch.rand(2000, 2, generator=generator) * 2 - 1
    actions = torch.rand(2000, 1, generator=generator) * 4 - 2
    return Log(seen, actions, -(actions[:, 0] - 1).square(), seen.flip(0), torch.ones(2000))


@pytest.fixture
def learner() -> TD3:
    return TD3("MlpPolicy", Bandit(), gamma=0.9, seed=0, learning_rate=3e-3, policy_kwargs={"net_arch": [32, 32]})


def test_the_target_is_the_papers_sample_by_sample(learner, log):
    """Ends cut the future off, the lesser critic counts, and a noisy action stays in its range."""
    with torch.no_grad():
        for parameter in learner.policy.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    ends, noise = (torch.arange(8) % 2).float(), torch.tensor([[-0.5], [0.5], [0.1], [-0.1], [5.0], [-5.0], [0], [0.2]])
    found = target(learner, log.after[:8], log.rewards[:8], ends, noise)
    for i in range(8):
        action = np.clip(learner.actor_target(log.after[i : i + 1]).item() + noise[i].item(), -1, 1)
        values = [
            net(torch.cat([log.after[i], torch.tensor([action], dtype=torch.float32)])).item()
            for net in learner.critic_target.q_networks
        ]
        assert values[0] != values[1]
        expected = log.rewards[i].item() + 0.9 * (1 - ends[i].item()) * min(values)
        assert found[i, 0].item() == pytest.approx(expected, abs=1e-5)


def test_the_actors_loss_weighs_values_by_their_own_size():
    value, chosen, acted = torch.tensor([[2.0], [-4.0]]), torch.tensor([[0.5], [0.0]]), torch.tensor([[0.0], [1.0]])
    expected = -ALPHA * (2 - 4) / 2 / 3 + (0.25 + 1) / 2
    assert actor_loss(value, chosen, acted).item() == pytest.approx(expected)
    assert actor_loss(100 * value, chosen, acted).item() == pytest.approx(expected), "whatever the rewards' units"
    weight = torch.tensor(3.0, requires_grad=True)
    actor_loss(weight * value, chosen, acted).backward()
    assert weight.grad.item() == pytest.approx(-ALPHA * (2 - 4) / 2 / 9), "no gradient passes the normaliser"


def test_what_pays_is_done_though_cloning_does_the_mean(learner, log):
    """Actions are uniform and the reward is the action: cloning does nothing, on the mean, and the best is 2."""
    learn_td3_bc(learner, replace(log, rewards=log.actions[:, 0]), 1.0, 200, seed=0)
    chosen = learner.predict(log.seen[:200].numpy(), deterministic=True)[0]
    assert chosen.mean() > 1.0


def test_without_the_value_it_clones(learner, log, monkeypatch):
    monkeypatch.setattr(td3_bc, "ALPHA", 0.0)
    done = 1.5 * log.seen[:, :1]
    learn_td3_bc(learner, replace(log, actions=done), 1.0, 400, seed=0)
    chosen = torch.from_numpy(learner.predict(log.seen[:200].numpy(), deterministic=True)[0])
    assert (chosen - done[:200]).abs().mean() < 0.2 < done[:200].abs().mean()


def test_batches_are_a_function_of_the_seed():
    (at, noise), *_ = batches(50, 3, 2, seed=4)
    (again, same), *_ = batches(50, 3, 2, seed=4)
    assert torch.equal(at, again) and torch.equal(noise, same)
    assert noise.abs().max() <= 0.5 and noise.shape == (256, 3)
    assert not torch.equal(at, next(batches(50, 3, 1, seed=5))[0])
