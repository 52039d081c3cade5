"""What the tokenizer is trained on: reconstruction that minds small things, and the state it must keep."""

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from annotated_types import Interval
from torch import Tensor, nn

from procosm.world_model.data.batch import Batch
from procosm.world_model.data.share import mean_over_processes, share
from procosm.world_model.heads import StateHead, mlp
from procosm.world_model.precision import sent
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.tokenizer.rarity import ColourRarity

STILL = 1e-4
"""Mean square step, in squared deviations, below which nothing is said to move."""


@dataclass(frozen=True)
class TokenizerLossConfig:
    """Weights of the tokenizer's loss."""

    foreground_weight: float = 10.0
    """Extra weight of pixels that differ from the mean frame: the robot is a few per cent of the picture."""
    foreground_threshold: float = 0.06
    """Difference from the mean frame that counts as foreground, in a range of 2."""
    moving_weight: float = 10.0
    """Without states: extra weight of pixels that change between two frames by more than the threshold."""
    rare_power: Annotated[float, Interval(ge=0, le=1)] = 0.75
    """Without states: power of the inverse frequency by which rare colours weigh more, see ``rarity``."""
    noise: Annotated[float, Interval(ge=0, le=1)] = 0.15
    """Without states: noise on the latents that are decoded, in deviations of each channel, so that nothing of a frame
    is told by differences that a dream's errors drown; see TokenizerLoss. Tokens have none: they are apart anyway."""
    state_weight: float = 2.0
    """Weight of the true state's error as read from the latents: two pixels of fingertip hardly move a pixel loss.
    Without states: weight of the errors of what was done, what it earned and whether it ended the episode."""
    straight_weight: float = 0.5
    """Weight of the curvature of latents in time, where the state moves evenly."""
    blind_straight_weight: float = 0.1
    """The same without states, which would tell where motion is even: everywhere, and therefore less."""


class MotionHead(nn.Module):
    """What was done in the last step, what it earned and whether it ended, from the latents around it.

    Inverse dynamics keeps in latents what actions move, however few its pixels are. It is told the action before, for
    the change of motion in a step is the work of both.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, latents: int, latent_shape: tuple[int, int, int], actions: int, hidden: int = 256) -> None:
        super().__init__()
        size = latents * math.prod(latent_shape)
        self.net = mlp(size + actions, hidden, actions + 2)
        self.register_buffer("mean", torch.zeros(actions + 1))
        self.register_buffer("std", torch.ones(actions + 1))

    @torch.no_grad()
    def fit(self, actions: Tensor, rewards: Tensor | None) -> None:
        """Units from data: (n, a) actions and (n,) rewards, where there are some."""
        earned = actions.new_zeros(len(actions)) if rewards is None else rewards
        values = torch.cat([actions, earned[:, None]], dim=1)
        self.mean.copy_(values.mean(0))
        self.std.copy_(values.std(0).clamp_min(1e-3))

    def forward(self, latents: Tensor, batch: Batch) -> Tensor:
        """Mean error, given (b, t, c, h, w) standardised latents of the batch's frames, the last step's around it."""
        mean, std = self.mean[:-1], self.std[:-1]
        done = (batch.actions[:, -1] - mean) / std
        before = ((batch.actions[:, -2] - mean) / std).nan_to_num(0.0)
        newest = latents[:, -1:]
        seen = torch.cat([newest, 4.0 * (newest - latents[:, :-1])], dim=1).flatten(1)
        found = self.net(torch.cat([seen, before], dim=1))
        error = F.smooth_l1_loss(found[:, :-2], done)
        error = error + F.binary_cross_entropy_with_logits(found[:, -1], batch.ends[:, -1])
        if "reward" in batch.signals:
            earned = (batch.signals["reward"][:, -1] - self.mean[-1]) / self.std[-1]
            error = error + F.smooth_l1_loss(found[:, -2], earned)
        return error


class TokenizerLoss(nn.Module):
    """L1 + L2 reconstruction, foreground first; what must be readable from the latents; and their curvature.

    A picture's edges jump from pixel to pixel, and a latent that jumps with them hides how fast a slow thing moves. So
    latents are straightened in time (Hénaff, Goris and Simoncelli 2019), but only where the true state moves evenly:
    what is pushed must show it. The last two are our additions. Where no states are logged, what moves in the picture
    counts as the foreground does, rare colours count for more, and actions must be readable in the state's place; and
    the decoder is given latents with noise (Vincent et al. 2008, there on pictures): a code without it keeps what is
    small by a hundredth of a deviation, which is gone after one step of a dream.
    """

    def __init__(self, config: TokenizerLossConfig, tokenizer: CausalTokenizer, head: StateHead | MotionHead) -> None:
        super().__init__()
        self.config, self.tokenizer, self.head = config, tokenizer, head
        self.rarity = ColourRarity(config.rare_power)

    def forward(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """``loss, metrics`` of a batch's frames, each coded as an image; our share of them.

        Args:
            generator: of the noise, on the CPU.
        """
        b, t = batch.frames.shape[:2]
        x = self.tokenizer.pixels(batch.frames.flatten(0, 1)[:, None])
        z = self.tokenizer.to_latents(x)
        centred, deviation = by_channel(z.float())
        noise = self.noise(b, t, z, generator) * deviation.detach()
        error = self.tokenizer.to_pixels(z + noise.to(z.dtype)).float() - x
        picture = (self.weight(x, t) * (error.abs() + error.square())).mean()
        # The head reads what dynamics will see: latents standardised by channel.
        seen = (centred / (deviation + 1e-5))[:, :, 0].unflatten(0, (b, t))
        if isinstance(self.head, StateHead):
            truth = self.head.standardise(batch.signals["state"])
            name, kept = "state", F.smooth_l1_loss(self.head(seen[:, -self.head.context :]), truth[:, -1])
            bend = ((1 - curvature(truth)).clamp_min(0) * curvature(seen)).mean()
            straight = self.config.straight_weight
        else:
            name, kept = "motion", self.head(seen, batch)
            bend, straight = curvature(seen).mean(), self.config.blind_straight_weight
        loss = picture + self.config.state_weight * kept + straight * bend
        with torch.no_grad():
            parts = {"loss": loss, "picture": picture, name: kept, "bend": bend, "mse": error.square().mean()}
            return loss, {key: value.detach() for key, value in parts.items()}

    def noise(self, b: int, t: int, z: Tensor, generator: torch.Generator) -> Tensor:
        """Noise on our share, (b t, c, 1, h, w), of the latents of a batch, the same however it is shared out."""
        if isinstance(self.head, StateHead) or self.tokenizer.config.levels or not self.config.noise:
            return torch.zeros_like(z)
        batch = b * share().count
        drawn = torch.randn(batch, t, *z.shape[1:], generator=generator)[share().rows(batch)]
        return self.config.noise * sent(drawn.flatten(0, 1), z.device)

    def weight(self, x: Tensor, t: int) -> Tensor:
        """(b t, 1, 1, h, w) weights of the pixels of (b t, 3, 1, h, w) frames."""
        threshold = self.config.foreground_threshold
        away = x - self.tokenizer.mean_frame
        foreground = away.abs().amax(1, keepdim=True) > threshold
        weight = 1 + self.config.foreground_weight * foreground
        if isinstance(self.head, StateHead):
            return weight
        video = x.unflatten(0, (-1, t))
        change = (video[:, 1:] - video[:, :-1]).abs().amax(2, keepdim=True) > threshold
        moving = torch.cat([change[:, :1], change], dim=1).flatten(0, 1)  # the first frame has what leaves it
        return weight + self.config.moving_weight * moving + (self.rarity(away) - 1)


def by_channel(z: Tensor) -> tuple[Tensor, Tensor]:
    """(b, c, t, h, w) latents less the mean of each channel over the batch, wherever its rows are computed, and the
    deviation of each, (1, c, 1, 1, 1).
    """
    over = (0, 2, 3, 4)
    if share().count == 1:
        return z - z.mean(over, keepdim=True), z.std(over, keepdim=True)
    centred = z - mean_over_processes(z.mean(over, keepdim=True))
    count = z.numel() // z.shape[1] * share().count
    variance = mean_over_processes(centred.square().mean(over, keepdim=True)) * count / (count - 1)
    return centred, variance.sqrt()


def curvature(x: Tensor) -> Tensor:
    """(b, t, …) sequences to (b,): how far each is from even motion, second differences over first ones, squared.

    0 for even motion, 2 for steps independent of each other, 4 for back and forth. Each sequence counts alike, however
    little moves in it. t is at least 3.
    """
    steps = (x[:, 1:] - x[:, :-1]).flatten(2)
    bend = (steps[:, 1:] - steps[:, :-1]).square().mean((1, 2))
    return bend / (steps.square().mean((1, 2)) + STILL)
