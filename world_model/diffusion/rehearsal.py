"""The diffusion stage's loss on made-up data, for what times or traces a training step."""

import torch
from torch import Tensor, nn

from procosm.world_model.data.batch import Batch, random_batch
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.dynamics import DiffusionDynamics
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.sparsity import sparsify

LATENT_SHAPE, ACTIONS, STATES = (4, 8, 8), 6, 17
"""HalfCheetah's."""


class Rehearsal(nn.Module):
    """``loss, metrics = step(batch)``: the diffusion stage's loss, its noise the same every time.

    Under torch.autocast the network takes its products in bfloat16, as it does in training.
    """

    def __init__(self, dynamics: DiffusionDynamics) -> None:
        super().__init__()
        self.dynamics = dynamics

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch."""
        device = batch.latents.device
        self.dynamics.mixed = torch.is_autocast_enabled(device.type)
        with torch.autocast(device.type, enabled=False):
            return self.dynamics.diffusion_loss(batch, torch.Generator().manual_seed(0))


def rehearse(transformer: TransformerConfig, density: float, block: int, batch: int) -> tuple[Rehearsal, Batch]:
    """A fresh dynamics model, block-sparse where ``density`` is below 1, and a batch of random windows for it."""
    dynamics = DiffusionDynamics(DynamicsConfig(transformer=transformer), LATENT_SHAPE, ACTIONS, STATES)
    if density < 1.0:
        sparsify(dynamics, density, block, dynamics.stay_dense)
    return Rehearsal(dynamics), made_up(dynamics, batch)


def made_up(dynamics: DiffusionDynamics, batch: int) -> Batch:
    """A batch of one step ahead, of the shapes that ``rehearse``'s dynamics take."""
    signals = {"state": STATES, "reward": 1}
    return random_batch(batch, dynamics.context, 1, ACTIONS, signals, latent=LATENT_SHAPE)
