"""What a policy wants to know of latents: state or features, the reward, whether the episode ends, and success."""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, outputs)
    )


class LatentHead(nn.Module):
    """Reads some numbers from the last few latents.

    It sees the newest latent and its differences from the older ones: velocities are differences, and a network that
    has to find them by subtracting large numbers finds them late.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, context: int, latent_shape: tuple[int, int, int], size: int, hidden: int = 256) -> None:
        super().__init__()
        c, h, w = latent_shape
        self.context, self.size = context, size
        self.net = mlp(context * c * h * w, hidden, size)
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("std", torch.ones(size))

    def forward(self, latents: Tensor) -> Tensor:
        """(b, context, c, h, w) latents to (b, size), standardised."""
        newest = latents[:, -1:]
        return self.net(torch.cat([newest, 4.0 * (newest - latents[:, :-1])], dim=1).flatten(1))

    def standardise(self, values: Tensor) -> Tensor:
        return (values - self.mean) / self.std

    def physical(self, standardised: Tensor) -> Tensor:
        """Back to the units of the data."""
        return standardised * self.std + self.mean


class StateHead(LatentHead):
    """The task's true state, positions and velocities, in the task's own units."""

    @torch.no_grad()
    def fit(self, states: Tensor) -> None:
        """Units from data: (n, s) true states."""
        self.mean.copy_(states.mean(0))
        self.std.copy_(states.std(0).clamp_min(1e-3))


class FeatureHead(LatentHead):
    """Features learned where no states are logged, see ``features``: without units, of mean 0 and deviation 1."""

    @torch.no_grad()
    def whiten(self, parts: Iterable[Tensor]) -> None:
        """Give features mean 0 and deviation 1 over real latents, in parts (n, context, c, h, w), by the last layer's
        weights.
        """
        found = torch.cat([self(part) for part in parts])
        mean, std, last = found.mean(0), found.std(0).clamp_min(1e-6), cast(nn.Linear, self.net[-1])
        last.weight.div_(std[:, None])
        last.bias.sub_(mean).div_(std)


SHARE = 0.5
"""Of a reward's variance, how much may be left for the action to count as telling most of it."""


class OutcomeHead(nn.Module):
    """Reward and termination of one step, and success where a log tells of it.

    Most tasks define them by states and the action, so the estimated states (or features) before and after stand first;
    a small projection of the two latents carries what these leave out.

    Where ``cost``, what the action alone costs, a sum of q u² over its numbers u, is fitted to the reward by least
    squares beforehand, and the network learns the rest in units of its own: under random actions their cost may
    be nearly all that varies, and how far a target is would hardly count. Where it is less than half, nothing is taken
    off: few actions seem to tell a little of any reward.
    """

    reward_mean: Tensor
    reward_std: Tensor
    reward_cost: Tensor

    def __init__(
        self,
        latent_shape: tuple[int, int, int],
        read_size: int,
        action_size: int,
        success: bool = False,
        cost: bool = False,
        hidden: int = 256,
        seen: int = 32,
    ) -> None:
        super().__init__()
        c, h, w = latent_shape
        self.see = nn.Linear(c * h * w, seen)
        self.net = mlp(2 * (seen + read_size) + action_size, hidden, 2 + success)
        self.register_buffer("reward_mean", torch.zeros(()))
        self.register_buffer("reward_std", torch.ones(()))
        self.cost = cost
        if cost:
            self.register_buffer("reward_cost", torch.zeros(action_size))

    @torch.no_grad()
    def fit(self, rewards: Tensor, actions: Tensor) -> None:
        """Units from data: (n,) rewards and the (n, a) actions in [-1, 1] that earned them."""
        if self.cost:
            known = actions.square().double()
            centred = known - known.mean(0), (rewards - rewards.mean()).double()[:, None]
            found = torch.linalg.lstsq(*(each.cpu() for each in centred), driver="gelsd").solution[:, 0]
            left = rewards - actions.square() @ found.to(actions)
            told = left.var() <= SHARE * rewards.var()
            self.reward_cost.copy_(found * told.to(found.device))
            rewards = left if told else rewards
        self.reward_mean.copy_(rewards.mean())
        self.reward_std.copy_(rewards.std().clamp_min(1e-3))

    def known(self, action: Tensor) -> Tensor:
        """(…, a) actions in [-1, 1] to what they tell of the reward by themselves, its mean with it, (…)."""
        return self.reward_mean + action.square() @ self.reward_cost if self.cost else self.reward_mean

    def forward(
        self, before: Tensor, after: Tensor, read_before: Tensor, read_after: Tensor, action: Tensor
    ) -> tuple[Tensor, ...]:
        """Standardised reward (b,), termination logit (b,), and that of success (b,) where it is told.

        Args:
            before, after: (b, c, h, w) latents. read_before, read_after: (b, s), standardised states or features.
            action: (b, a) in [-1, 1].
        """
        seen = [self.see(before.flatten(1)), self.see(after.flatten(1))]
        return self.net(torch.cat([*seen, read_before, read_after, action], dim=-1)).unbind(-1)
