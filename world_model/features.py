"""How features are learned where no states are logged: numbers from which the near future can be told.

A head reads features off real latents, and small networks, which are thrown away afterwards, must make do with these
alone: tell what was done between two moments (inverse dynamics), step them on under the logged actions for several
steps, and tell from them at every step the latent and its motion, the reward and the end. What none of this needs is
left out, and what a few pixels move is not, for latents count by axis, each in units of its own spread.

A goal that stands still moves no pixels at all, and varies little beside the robot. So the axes that stay count, too:
those along which latents differ most between episodes and least within one, as in slow feature analysis (Wiskott and
Sejnowski 2002) and in Fisher's discriminant.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.world_model.data.batch import Batch
from procosm.world_model.heads import FeatureHead, mlp

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
    def fit(self, before: Tensor, after: Tensor, episode: Tensor) -> None:
        """The axes, from (n, c, h, w) latents and those a step later, and (n,), a number for each one's episode."""
        pairs = ((self.mean, self.axes, after), (self.motion_mean, self.motion_axes, after - before))
        for mean, axes, latents in pairs:
            flat = latents.flatten(1).double()
            mean.copy_(flat.mean(0))
            variance, found = (each.to(flat.device) for each in torch.linalg.eigh(torch.cov(flat.T).cpu()))
            last = axes.shape[1]
            axes.copy_(found.flip(1)[:, :last] / variance.flip(0)[:last].clamp_min(1e-8).sqrt())
        staying = axes_that_stay(after.flatten(1).double().cpu(), episode.cpu(), self.staying_axes.shape[1])
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
        staying = self.staying_axes.shape[1]
        return {"latent": unlike[:, :-staying].mean(1), "staying": unlike[:, -staying:].mean(1)}


def axes_that_stay(latents: Tensor, episode: Tensor, count: int) -> Tensor:
    """(d, k) axes of (n, d) latents, k ≤ count, along which the variance between episodes is the largest in units of
    that within them, the first foremost; each in units of the spread along it. Of e episodes there are at most e - 1.

    Args:
        episode: (n,), a number for each latent's episode.
    """
    names, own = episode.unique(return_inverse=True)
    sizes = torch.bincount(own).to(latents)
    means = latents.new_zeros(len(names), latents.shape[1]).index_add_(0, own, latents) / sizes[:, None]
    centred = latents - latents.mean(0)
    within, between = latents - means[own], (means - latents.mean(0))[own]
    within, between = within.T @ within / len(latents), between.T @ between / len(latents)
    within.diagonal().add_((RIDGE * within.diagonal().mean()).clamp_min(1e-12))
    root = torch.linalg.cholesky(within)
    half = torch.linalg.solve_triangular(root, between, upper=False)
    scaled = torch.linalg.solve_triangular(root, half.T, upper=False)
    ratio, found = torch.linalg.eigh((scaled + scaled.T) / 2)
    kept = min(count, len(names) - 1, int((ratio > 0).sum()))
    axes = torch.linalg.solve_triangular(root.T, found.flip(1)[:, :kept], upper=True)
    return axes / (centred @ axes).square().mean(0).sqrt().clamp_min(1e-8)
