"""How what reads latents is trained, on the latents of a finished tokenizer: of every kind of dynamics alike."""

from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from procosm.world_model.data.on_disk import Parts, in_parts, some
from procosm.world_model.data.share import share
from procosm.world_model.data.windows import context_index, cut, draw
from procosm.world_model.features import STEPS, FeatureLoss
from procosm.world_model.training.recipes import Stage, Training


@dataclass(frozen=True)
class Read(Stage):
    """The state head once more, on finished latents: beside the tokenizer it sees too few batches.

    Where no states are logged, the feature head instead, see ``features``.
    """

    def run(self, name: str, training: Training) -> dict[str, Any]:
        """See Stage."""
        if "state" not in training.dynamics.readouts:
            return {"features": self._features(training)}
        head, table, z = training.dynamics.state_head, training.table, training.latents["train"]
        head.fit(table.signals["state"])  # the tokenizer's stage did, where there was one

        def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            at = draw(table, self.batch, training.seed + 3, step)[0][share().rows(self.batch)]
            estimate = head(z[context_index(table, at + 1, head.context)])
            loss = F.smooth_l1_loss(estimate, head.standardise(table.signals["state"][at + 1]))
            return loss, {"state": loss.detach()}

        return {name: training.optimise(name, head, losses, self)}

    def _features(self, training: Training) -> dict[str, float]:
        dynamics, table, z = training.dynamics, training.table, training.latents["train"]
        head = dynamics.features_head
        fit_rewards(training)
        loss = FeatureLoss(head, z[0].numel(), table.actions.shape[1]).to(table.device)
        parts = in_parts(z, some(z, table.steps))
        loss.fit(Parts(parts, lambda at: z[at + 1]), Parts(parts, lambda at: z[at + 1] - z[at]))

        def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
            at = draw(table, self.batch, training.seed + 3, step)[0][share().rows(self.batch)]
            return loss(dynamics.standardised(cut(table, at, head.context, STEPS, z)))

        metrics = training.optimise("features", loss, losses, self)
        head.whiten(Parts(parts, lambda at: z[context_index(table, at, head.context)]))
        return metrics


def fit_rewards(training: Training) -> None:
    """The units of rewards, from those that were logged, where any were."""
    table, dynamics = training.table, training.dynamics
    if "reward" in table.signals:
        done = dynamics.unit_action(table.actions[table.steps]).clamp(-1, 1)
        dynamics.outcome_head.fit(table.signals["reward"][table.steps], done)
