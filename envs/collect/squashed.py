"""SB3's actor and critic with actions that end at their bounds by tanh, for learners that follow gradients."""

from typing import cast

import torch
from stable_baselines3.common.distributions import SquashedDiagGaussianDistribution
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import get_action_dim
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor


class SquashedActorCritic(ActorCriticPolicy):
    """Actions are tanh(μ + σ ε), of which -1 and 1 are the bounds. Clipped ones, as PPO's, have no gradient there."""

    def _build(self, lr_schedule: Schedule) -> None:
        self.action_dist = SquashedDiagGaussianDistribution(get_action_dim(self.action_space))
        self._squash_output = True  # SB3's ``predict`` takes them from [-1, 1] to the bounds
        super()._build(lr_schedule)

    def unit_action(self, observed: Tensor, noise: Tensor) -> Tensor:
        """(b, a) actions in [-1, 1] for (b, ...) observations and (b, a) standard normal numbers, with gradients."""
        features = cast(Tensor, self.extract_features(observed))  # one extractor serves actor and critic
        mean = self.action_net(self.mlp_extractor.forward_actor(features))
        return torch.tanh(mean + self.log_std.exp() * noise)
