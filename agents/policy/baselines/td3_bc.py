"""TD3+BC (Fujimoto & Gu 2021, arXiv 2106.06860): TD3 on a log alone, whose actor must also do what was done.

Actions are in −1…1, as Stable-Baselines3 scales them; states are standardised by the policy's features.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from stable_baselines3 import TD3
from stable_baselines3.common.utils import polyak_update
from torch import Tensor

from procosm.agents.policy.baselines.logged import Logged

ALPHA = 2.5
"""Weight of the value against doing what was done (eq. 5)."""
BATCH, ACTOR_EVERY, TAU = 256, 2, 0.005
NOISE, NOISE_CLIP = 0.2, 0.5
"""Of the target's actions, in units of half their range (table 3)."""


def learn_td3_bc(learner: TD3, data: Logged, scale: float, steps: int, seed: int) -> None:
    """``steps`` gradient steps of the critics, half as many of the actor, rewards multiplied by ``scale``."""
    learner.policy.set_training_mode(True)
    done = torch.as_tensor(learner.policy.scale_action(data.actions.numpy()))
    for step, (at, noise) in enumerate(batches(len(done), done.shape[1], steps, seed)):
        seen, acted = data.seen[at], done[at]
        wanted = target(learner, data.after[at], scale * data.rewards[at], data.ends[at], noise)
        loss = torch.stack([F.mse_loss(value, wanted) for value in learner.critic(seen, acted)]).sum()
        _descend(learner.critic.optimizer, loss)
        if step % ACTOR_EVERY == 0:
            chosen = learner.actor(seen)
            _descend(learner.actor.optimizer, actor_loss(learner.critic.q1_forward(seen, chosen), chosen, acted))
            polyak_update(learner.critic.parameters(), learner.critic_target.parameters(), TAU)
            polyak_update(learner.actor.parameters(), learner.actor_target.parameters(), TAU)
    learner.policy.set_training_mode(False)


def batches(count: int, actions: int, steps: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """For each step (b,) transitions and (b, a) clipped noise: a function of the seed alone."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        at = torch.randint(count, (BATCH,), generator=generator)
        yield at, (NOISE * torch.randn(BATCH, actions, generator=generator)).clamp(-NOISE_CLIP, NOISE_CLIP)


@torch.no_grad()
def target(learner: TD3, after: Tensor, rewards: Tensor, ends: Tensor, noise: Tensor) -> Tensor:
    """(b, 1), r + γ (1 − end) min Q'(s', π'(s') + noise): clipped double Q with a smoothed action (TD3, eq. 10, 14)."""
    chosen = (learner.actor_target(after) + noise).clamp(-1, 1)
    least = torch.cat(learner.critic_target(after, chosen), dim=1).amin(dim=1)
    return (rewards + learner.gamma * (1 - ends.float()) * least)[:, None]


def actor_loss(value: Tensor, chosen: Tensor, acted: Tensor) -> Tensor:
    """−λ Q + (π(s) − a)², λ = α / mean |Q|, which no gradient passes (eq. 3 and 5)."""
    return -ALPHA / value.detach().abs().mean() * value.mean() + F.mse_loss(chosen, acted)


def _descend(optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
