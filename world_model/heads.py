"""What a policy wants to know of a latent: the true state, the reward, and whether the episode ends."""

import torch
from torch import Tensor, nn


def mlp(inputs: int, hidden: int, outputs: int) -> nn.Sequential:
    """Two hidden layers."""
    return nn.Sequential(
        nn.Linear(inputs, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, outputs)
    )


class StateHead(nn.Module):
    """Reads the task's true state, positions and velocities, from the last few latents.

    It sees the newest latent and its differences from the older ones: velocities are differences, and a network that
    has to find them by subtracting large numbers finds them late.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, context: int, latent_shape: tuple[int, int, int], state_size: int, hidden: int = 256) -> None:
        super().__init__()
        c, h, w = latent_shape
        self.net = mlp(context * c * h * w, hidden, state_size)
        self.register_buffer("mean", torch.zeros(state_size))
        self.register_buffer("std", torch.ones(state_size))

    @torch.no_grad()
    def fit(self, states: Tensor) -> None:
        """Units from data: (n, s) true states."""
        self.mean.copy_(states.mean(0))
        self.std.copy_(states.std(0).clamp_min(1e-3))

    def forward(self, latents: Tensor) -> Tensor:
        """(b, context, c, h, w) latents to (b, s), standardised."""
        newest = latents[:, -1:]
        return self.net(torch.cat([newest, 4.0 * (newest - latents[:, :-1])], dim=1).flatten(1))

    def standardise(self, states: Tensor) -> Tensor:
        return (states - self.mean) / self.std

    def physical(self, standardised: Tensor) -> Tensor:
        """Back to the task's own units."""
        return standardised * self.std + self.mean


class OutcomeHead(nn.Module):
    """Reward and termination of one step.

    Most tasks define both by states and the action, so the estimated states before and after stand first; a small
    projection of the two latents carries what the state leaves out.
    """

    reward_mean: Tensor
    reward_std: Tensor

    def __init__(
        self, latent_shape: tuple[int, int, int], state_size: int, action_size: int, hidden: int = 256, seen: int = 32
    ) -> None:
        super().__init__()
        c, h, w = latent_shape
        self.see = nn.Linear(c * h * w, seen)
        self.net = mlp(2 * (seen + state_size) + action_size, hidden, 2)
        self.register_buffer("reward_mean", torch.zeros(()))
        self.register_buffer("reward_std", torch.ones(()))

    @torch.no_grad()
    def fit(self, rewards: Tensor) -> None:
        """Units from data: (n,) rewards."""
        self.reward_mean.copy_(rewards.mean())
        self.reward_std.copy_(rewards.std().clamp_min(1e-3))

    def forward(
        self, before: Tensor, after: Tensor, state_before: Tensor, state_after: Tensor, action: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Standardised reward (b,) and termination logit (b,).

        Args:
            before, after: (b, c, h, w) latents. state_before, state_after: (b, s), standardised.
            action: (b, a) in [-1, 1].
        """
        seen = [self.see(before.flatten(1)), self.see(after.flatten(1))]
        reward, logit = self.net(torch.cat([*seen, state_before, state_after, action], dim=-1)).unbind(-1)
        return reward, logit
