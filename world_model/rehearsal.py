"""A training step of the dynamics on made-up latents, for tools that time or trace one."""

import torch
from torch import Tensor, nn

from procosm.world_model.diffusion.dynamics import DiffusionDynamics, DynamicsConfig, Window
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.sparsity import sparsify


class Rehearsal(nn.Module):
    """``loss, metrics = step(window)``: the diffusion stage's loss, its noise the same every time.

    Under torch.autocast the network takes its products in bfloat16, as it does in training.
    """

    def __init__(self, dynamics: DiffusionDynamics) -> None:
        super().__init__()
        self.dynamics = dynamics

    def forward(self, window: Window) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss of one batch; see Window for the shapes."""
        device = window.latents.device
        self.dynamics.mixed = torch.is_autocast_enabled(device.type)
        with torch.autocast(device.type, enabled=False):
            return self.dynamics.diffusion_loss(window, torch.Generator().manual_seed(0))


def rehearse(transformer: TransformerConfig, density: float, block: int, batch: int) -> tuple[Rehearsal, Window]:
    """A fresh dynamics model, block-sparse where ``density`` is below 1, and a batch of random windows for it."""
    latent_shape, actions, states = (4, 8, 8), 6, 17
    dynamics = DiffusionDynamics(DynamicsConfig(transformer=transformer), latent_shape, actions, states)
    if density < 1.0:
        sparsify(dynamics, density, block, dynamics.stay_dense)
    window = Window(
        latents=torch.randn(batch, dynamics.context + 1, *latent_shape),
        actions=torch.rand(batch, dynamics.context, actions) * 2 - 1,
        states=torch.randn(batch, 1, states),
        rewards=torch.randn(batch, 1),
        ends=torch.zeros(batch, 1),
        mask=torch.ones(batch, 1),
    )
    return Rehearsal(dynamics), window
