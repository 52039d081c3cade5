"""What the tokenizer is trained on: reconstruction that minds small things, and the state it must keep."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.world_model.data.share import mean_over_processes, share
from procosm.world_model.heads import StateHead
from procosm.world_model.tokenizer.model import CausalTokenizer

STILL = 1e-4
"""Mean square step, in squared deviations, below which nothing is said to move."""


@dataclass(frozen=True)
class TokenizerLossConfig:
    """Weights of the tokenizer's loss."""

    foreground_weight: float = 10.0
    """Extra weight of pixels that differ from the mean frame: the robot is a few per cent of the picture."""
    foreground_threshold: float = 0.06
    """Difference from the mean frame that counts as foreground, in a range of 2."""
    state_weight: float = 2.0
    """Weight of the true state's error as read from the latents: two pixels of fingertip hardly move a pixel loss."""
    straight_weight: float = 0.5
    """Weight of the curvature of latents in time, where the state moves evenly."""


class TokenizerLoss(nn.Module):
    """L1 + L2 reconstruction, foreground first; the error of a state head reading the latents; and their curvature.

    A picture's edges jump from pixel to pixel, and a latent that jumps with them hides how fast a slow thing moves. So
    latents are straightened in time (Hénaff, Goris and Simoncelli 2019), but only where the true state moves evenly:
    what is pushed must show it. The last two are our additions.
    """

    def __init__(self, config: TokenizerLossConfig, tokenizer: CausalTokenizer, head: StateHead) -> None:
        super().__init__()
        self.config, self.tokenizer, self.head = config, tokenizer, head

    def forward(self, frames: Tensor, states: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """``loss, metrics`` of a batch.

        Args:
            frames: (b, context, h, w, 3) uint8, each coded as an image. states: (b, context, s), true states at these.
        """
        b, t = frames.shape[:2]
        x = self.tokenizer.pixels(frames.flatten(0, 1)[:, None])
        z = self.tokenizer.to_latents(x)
        error = self.tokenizer.to_pixels(z).float() - x
        foreground = (x - self.tokenizer.mean_frame).abs().amax(1, keepdim=True) > self.config.foreground_threshold
        weight = 1 + self.config.foreground_weight * foreground
        picture = (weight * (error.abs() + error.square())).mean()
        z = z.float()  # the head reads what dynamics will see: latents standardised by channel
        z = standardised(z)
        seen = z[:, :, 0].unflatten(0, (b, t))
        truth = self.head.standardise(states)
        state = F.smooth_l1_loss(self.head(seen), truth[:, -1])
        even = (1 - curvature(truth)).clamp_min(0)
        bend = (even * curvature(seen)).mean()
        loss = picture + self.config.state_weight * state + self.config.straight_weight * bend
        with torch.no_grad():
            metrics = {
                "loss": loss.detach(),
                "picture": picture.detach(),
                "state": state.detach(),
                "bend": bend.detach(),
            }
            return loss, metrics | {"mse": error.square().mean().detach()}


def standardised(z: Tensor) -> Tensor:
    """(b, c, t, h, w) latents in deviations of each channel over the batch, wherever its rows are computed."""
    over = (0, 2, 3, 4)
    if share().count == 1:
        return (z - z.mean(over, keepdim=True)) / (z.std(over, keepdim=True) + 1e-5)
    centred = z - mean_over_processes(z.mean(over, keepdim=True))
    count = z.numel() // z.shape[1] * share().count
    variance = mean_over_processes(centred.square().mean(over, keepdim=True)) * count / (count - 1)
    return centred / (variance.sqrt() + 1e-5)


def curvature(x: Tensor) -> Tensor:
    """(b, t, …) sequences to (b,): how far each is from even motion, second differences over first ones, squared.

    0 for even motion, 2 for steps independent of each other, 4 for back and forth. Each sequence counts alike, however
    little moves in it. t is at least 3.
    """
    steps = (x[:, 1:] - x[:, :-1]).flatten(2)
    bend = (steps[:, 1:] - steps[:, :-1]).square().mean((1, 2))
    return bend / (steps.square().mean((1, 2)) + STILL)
