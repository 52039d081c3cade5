"""Behaviour cloning: do what was done."""

from typing import Any

import torch
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor

BATCH = 256
"""Transitions in a gradient step."""


def clone(
    policy: ActorCriticPolicy, seen: Tensor, actions: Tensor, steps: int, seed: int, learning_rate: float
) -> None:
    """Fit a policy's mean to (n, a) actions at (n, s) states by least squares, in units of half the action range."""
    space: Any = policy.action_space
    device = policy.device
    half = torch.as_tensor((space.high - space.low) / 2, device=device)
    optimizer = torch.optim.Adam(policy.parameters(), lr=learning_rate)
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        at = torch.randint(len(seen), (BATCH,), generator=generator)
        acted: Any = policy.get_distribution(seen[at].to(device)).distribution
        loss = ((acted.mean - actions[at].to(device)) / half).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
