"""What a dynamics of any kind tells of its latents: the state or features, the reward, whether the episode ends, and
whether it is at its goal.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.world_model.data.batch import Batch
from procosm.world_model.heads import FeatureHead, OutcomeHead, StateHead

ReadoutName = Literal["reward", "termination", "success", "state", "features"]


class Readouts(nn.Module):
    """Base of dynamics whose heads read latents, and which take actions within bounds."""

    readouts: frozenset[str]
    context: int
    action_low: Tensor
    action_high: Tensor

    def add_readouts(
        self,
        names: Sequence[ReadoutName],
        features: int,
        context: int,
        latent_shape: tuple[int, int, int],
        action_size: int,
        state_size: int,
        action_cost: bool,
    ) -> None:
        """Add the heads, the state's where it is among ``names``, else one of so many features; see OutcomeHead for
        ``action_cost``.
        """
        self.readouts = frozenset(names)
        if "state" in self.readouts:
            self.state_head = StateHead(context, latent_shape, state_size)
        else:
            self.features_head = FeatureHead(context, latent_shape, features)
        self.outcome_head = OutcomeHead(
            latent_shape, self.reader.size, action_size, "success" in self.readouts, action_cost
        )
        self.register_buffer("action_low", torch.full((action_size,), -1.0))
        self.register_buffer("action_high", torch.ones(action_size))

    @property
    def reader(self) -> StateHead | FeatureHead:
        """What reads the state off latents, or features where no state was logged."""
        return self.state_head if "state" in self.readouts else self.features_head

    @property
    def read_name(self) -> str:
        """What it reads, by its name as a readout."""
        return "state" if "state" in self.readouts else "features"

    def unit_action(self, action: Tensor) -> Tensor:
        """The task's own units to [-1, 1]."""
        return 2 * (action - self.action_low) / (self.action_high - self.action_low) - 1

    def outcome(self, before: Tensor, read_before: Tensor, after: Tensor, unit: Tensor) -> tuple[Tensor, ...]:
        """Reward (b,), probability of the end (b,), the state or features (b, s), in the task's own units, and the
        probability of success (b,) where it is told.

        Args:
            before: (b, c, h, w), latents before the step. read_before: (b, s), what was read there, standardised.
            after: (b, context, c, h, w), latents, newest last. unit: (b, a), what was done, in [-1, 1].
        """
        read = self.reader(after)
        reward, logit, *success = self.outcome_head(before, after[:, -1], read_before, read, unit)
        reward = reward * self.outcome_head.reward_std + self.outcome_head.known(unit)
        return reward, logit.sigmoid(), self.reader.physical(read), *(each.sigmoid() for each in success)

    def named(
        self, reward: Tensor, termination: Tensor, read: Tensor, success: Tensor | None = None
    ) -> dict[str, Tensor]:
        """What an outcome holds, by name, and no more than was learned."""
        found = {"reward": reward, "termination": termination, self.read_name: read}
        if success is not None:
            found["success"] = success
        return {name: value for name, value in found.items() if name in self.readouts}

    def standardised(self, batch: Batch) -> Batch:
        """A batch of the task's own units in those of the network and the heads: actions in [-1, 1]."""
        signals, actions = dict(batch.signals), self.unit_action(batch.actions).clamp(-1, 1)
        if "reward" in signals:
            done = actions[:, actions.shape[1] - signals["reward"].shape[1] :]
            signals["reward"] = (signals["reward"] - self.outcome_head.known(done)) / self.outcome_head.reward_std
        if "state" in signals and "state" in self.readouts:
            signals["state"] = self.state_head.standardise(signals["state"])
        return replace(batch, actions=actions, signals=signals)

    def head_loss(self, latents: Tensor, window: Batch, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        """Reward, termination and success of one step, as far as they were logged, given (b, context + 1, c, h, w)
        latents.
        """
        before, after = self.reader(latents[:, :-1]), self.reader(latents[:, 1:])
        action = window.actions[:, self.context - 1 + step]
        reward, logit, *success = self.outcome_head(latents[:, -2], latents[:, -1], before, after, action)
        mask = window.mask[:, step]
        errors = {}
        if "reward" in self.readouts:
            errors["reward"] = F.smooth_l1_loss(reward, window.signals["reward"][:, step], reduction="none")
        if "termination" in self.readouts:
            errors["end"] = F.binary_cross_entropy_with_logits(logit, window.ends[:, step], reduction="none")
        for told in success:
            reached = window.signals["success"][:, step]
            errors["success"] = F.binary_cross_entropy_with_logits(told, reached, reduction="none")
        means = {name: (error * mask).mean() for name, error in errors.items()}
        return sum(means.values(), logit.new_zeros(())), {name: mean.detach() for name, mean in means.items()}
