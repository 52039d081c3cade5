"""How features are learned where no states are logged: numbers from which the near future can be told.

A head reads features off real latents, and small networks, which are thrown away afterwards, must make do with these
alone: tell what was done between two moments (inverse dynamics), step them on under the logged actions for several
steps, and tell from them at every step the latent and its motion, the reward and the end. What none of this needs is
left out, and what a few pixels move is not, for latents count by axis, each in units of its own spread.

A goal that stands still moves no pixels at all, and varies little beside the robot. So the axes that stay count, too:
those along which latents differ most between episodes and least within one, as in slow feature analysis (Wiskott and
Sejnowski 2002) and in Fisher's discriminant.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.world_model.data.batch import Batch
from procosm.world_model.heads import FeatureHead, mlp
from procosm.world_model.moments import mean_and_covariance

AXES = 16
"""Principal axes of latents, and of their changes in a step, that features must tell."""
STAYING = 32
"""Axes of latents that stay within an episode and differ between episodes, that features must tell."""
RIDGE = 0.01
"""Share of the mean variance within episodes that is added to it along every axis, lest noise decide which stay."""
STEPS = 6
"""Steps that features are carried ahead."""


class FeatureLoss(nn.Module):
    """``loss, metrics`` of a feature head on a batch of latents, actions in [-1, 1] and standardised rewards."""

    mean: Tensor
    axes: Tensor
    motion_mean: Tensor
    motion_axes: Tensor
    staying_axes: Tensor

    def __init__(self, head: FeatureHead, latents: int, actions: int, hidden: int = 256) -> None:
        """Args: latents: numbers of a latent. actions: numbers of an action."""
        super().__init__()
        self.head, size = head, head.size
        self.scale = nn.BatchNorm1d(size, affine=False)
        axes, staying = min(AXES, latents), min(STAYING, latents)
        self.carry = mlp(size + actions, hidden, size)
        self.show = mlp(size, hidden, 2 * axes + staying)
        self.act = mlp(2 * size, hidden, actions)
        self.judge = mlp(2 * size + actions, hidden, 2)
        for name in ("", "motion_"):
            self.register_buffer(f"{name}mean", torch.zeros(latents))
            self.register_buffer(f"{name}axes", torch.zeros(latents, axes))
        self.register_buffer("staying_axes", torch.zeros(latents, staying))

    @torch.no_grad()
    def fit(self, latents: Iterable[Tensor], motions: Iterable[Tensor], drifts: Iterable[Tensor]) -> None:
        """The axes, from latents, their changes in a step and what they are apart from another moment of the same
        episode, in parts (n, c, h, w) that are gone through twice.
        """
        for mean, axes, parts in ((self.mean, self.axes, latents), (self.motion_mean, self.motion_axes, motions)):
            centre, covariance = mean_and_covariance(parts)
            mean.copy_(centre)
            variance, found = (each.to(centre.device) for each in torch.linalg.eigh(covariance.cpu()))
            last = axes.shape[1]
            axes.copy_(found.flip(1)[:, :last] / variance.flip(0)[:last].clamp_min(1e-8).sqrt())
        whole, drift = (mean_and_covariance(parts)[1].cpu() for parts in (latents, drifts))
        staying = axes_that_stay(whole, drift, self.staying_axes.shape[1])
        self.staying_axes.zero_()[:, : staying.shape[1]] = staying.to(self.staying_axes)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Of a batch with the head's context and any horizon."""
        k, horizon = self.head.context, batch.mask.shape[1]
        windows = batch.latents.unfold(1, k, 1).movedim(-1, 2)  # (b, horizon + 1, k, c, h, w)
        read = self.scale(self.head(windows.flatten(0, 1))).unflatten(0, (-1, horizon + 1))
        moving = batch.latents[:, k - 1 :].flatten(2)
        places = (moving - self.mean) @ self.axes
        steps = (batch.latents[:, k - 1 :] - batch.latents[:, k - 2 : -1]).flatten(2)
        motions, staying = (steps - self.motion_mean) @ self.motion_axes, (moving - self.mean) @ self.staying_axes
        shown = torch.cat([places, motions, staying], dim=2)  # (b, horizon + 1, axes)
        errors = {name: each.mean() for name, each in self._unlike(read[:, 0], shown[:, 0]).items()}
        now = read[:, 0]
        for h in range(horizon):
            action = batch.actions[:, k - 1 + h]
            ahead = now + self.carry(torch.cat([now, action], dim=1))
            told = self.judge(torch.cat([now, ahead, action], dim=1))
            found = self.act(torch.cat([read[:, h], read[:, h + 1]], dim=1))
            here = self._unlike(ahead, shown[:, h + 1]) | {
                "ahead": F.smooth_l1_loss(ahead, read[:, h + 1].detach(), reduction="none").mean(1),
                "action": F.smooth_l1_loss(found, action, reduction="none").mean(1),
                "end": F.binary_cross_entropy_with_logits(told[:, 1], batch.ends[:, h], reduction="none"),
            }
            if "reward" in batch.signals:
                here["reward"] = F.smooth_l1_loss(told[:, 0], batch.signals["reward"][:, h], reduction="none")
            now = ahead
            for name, error in here.items():
                errors[name] = errors.get(name, 0.0) + (error * batch.mask[:, h]).mean() / horizon
        loss = torch.stack(list(errors.values())).sum()
        return loss, {"loss": loss.detach()} | {name: value.detach() for name, value in errors.items()}

    def _unlike(self, features: Tensor, shown: Tensor) -> dict[str, Tensor]:
        """(b,) errors of what (b, size) features tell of (b, axes) numbers of the latent."""
        unlike = F.smooth_l1_loss(self.show(features), shown, reduction="none")
        stays = self.staying_axes.any(0)  # of the others there is nothing to tell
        latent, staying = unlike.split([unlike.shape[1] - len(stays), len(stays)], dim=1)
        return {"latent": latent.mean(1), "staying": (staying * stays).sum(1) / stays.sum().clamp_min(1)}


def axes_that_stay(covariance: Tensor, drift: Tensor, count: int) -> Tensor:
    """(d, k) axes along which latents differ more between episodes than within one, the first foremost, k ≤ count; each
    in units of the spread along it.

    Args:
        covariance: (d, d), of latents. drift: (d, d), of what two moments of one episode are apart, which is twice the
            covariance within episodes.
    """
    within = drift / 2
    within.diagonal().add_((RIDGE * within.diagonal().mean()).clamp_min(1e-12))
    root = torch.linalg.cholesky(within)
    half = torch.linalg.solve_triangular(root, covariance, upper=False)
    whole = torch.linalg.solve_triangular(root, half.T, upper=False)  # the covariance in units of that within
    ratio, found = torch.linalg.eigh((whole + whole.T) / 2)
    kept = min(count, int((ratio > 2).sum()))
    axes = torch.linalg.solve_triangular(root.T, found.flip(1)[:, :kept], upper=True)
    return axes / ((covariance @ axes) * axes).sum(0).sqrt()
