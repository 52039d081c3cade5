"""Training steps on made-up data, for what times or traces one."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from procosm.world_model.diffusion.dynamics import DiffusionDynamics, DynamicsConfig, Window
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.heads import StateHead
from procosm.world_model.precision import bfloat16_pays, float32_convolutions
from procosm.world_model.sparsity import sparsify
from procosm.world_model.tokenizer.loss import TokenizerLoss, TokenizerLossConfig
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.training.stage import Optimizer, StageConfig, rate


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
    return Rehearsal(dynamics), random_windows(dynamics, batch)


def random_windows(dynamics: DiffusionDynamics, batch: int) -> Window:
    """A batch of one step ahead, of the shapes that ``dynamics`` takes, on its device."""
    actions, states = len(dynamics.action_low), len(dynamics.state_head.mean)
    window = Window(
        latents=torch.randn(batch, dynamics.context + 1, *dynamics.latent_shape),
        actions=torch.rand(batch, dynamics.context, actions) * 2 - 1,
        states=torch.randn(batch, 1, states),
        rewards=torch.randn(batch, 1),
        ends=torch.zeros(batch, 1),
        mask=torch.ones(batch, 1),
    )
    device = dynamics.action_low.device
    return Window(**{name: tensor.to(device) for name, tensor in vars(window).items()})


def dynamics_step(config: StageConfig, dynamics: DiffusionDynamics, batch: int) -> Callable[[], None]:
    """A training step of the diffusion stage, as ``train`` takes it, on random windows."""
    for judge in (dynamics.state_head, dynamics.manifold):
        judge.requires_grad_(False)
    window, device = random_windows(dynamics, batch), dynamics.action_low.device
    rehearsal, optimizer = Rehearsal(dynamics), Optimizer(dynamics, config)

    def loss() -> Tensor:
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16_pays(device)):
            return rehearsal(window)[0]

    return _step(loss, optimizer, config)


def tokenizer_step(
    loss_config: TokenizerLossConfig, config: StageConfig, context: int, states: int, tokenizer: CausalTokenizer,
    batch: int,
) -> Callable[[], None]:  # fmt: skip
    """A training step of the tokenizer's stage on random frames, ``context`` for each of ``batch`` windows."""
    device, size = tokenizer.mean.device, tokenizer.mean_frame.shape[-2:]
    frames = torch.randint(0, 256, (batch, context, *size, 3), dtype=torch.uint8).to(device)
    truth = torch.randn(batch, context, states).to(device)
    loss = TokenizerLoss(loss_config, tokenizer, StateHead(context, tokenizer.spec.shape, states)).to(device)
    tokenizer.mixed = device.type == "cuda" and bfloat16_pays(device)
    return _step(lambda: loss(frames, truth)[0], Optimizer(loss, config), config)


def _step(loss: Callable[[], Tensor], optimizer: Optimizer, config: StageConfig) -> Callable[[], None]:
    def step() -> None:
        with float32_convolutions():
            loss().backward()
        optimizer.step(rate(0, config))
        optimizer.adam.zero_grad(set_to_none=True)

    return step
