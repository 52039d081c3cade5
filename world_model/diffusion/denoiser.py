"""What diffusion dynamics learn: the next latent by EDM denoising (Cosmos §5.1 and §6, arXiv 2501.03575).

The network denoises what inertia does not explain of the latent's change, in units of its typical size: what stays
still, or moves on as it did, costs nothing to predict. One denoising step from zero gives the mean of the next latent;
it is trained directly, as a part of every batch, and it is the step that self-forced training unrolls (see
``prototype`` in LOG.md: more steps were worse on deterministic tasks). Each step ends on the manifold of real latents,
or errors would add up beside it. The network is told what was done at every latent it sees, for the changes that it
sees are their work (LOG.md, "What was just done").
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.world_model.conditioning.frames import mask_of, shown_counts, with_hidden_unknown, with_oldest_hidden
from procosm.world_model.conditioning.rays import MOTION
from procosm.world_model.conditioning.text import embedded, some_untold
from procosm.world_model.data.batch import Batch
from procosm.world_model.data.share import share
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.cost import pass_flops
from procosm.world_model.diffusion.manifold import Manifold
from procosm.world_model.diffusion.precondition import (
    SIGMA_DATA,
    SIGMA_MAX,
    coefficients,
    sample_sigma,
    uncertainty_loss,
)
from procosm.world_model.diffusion.transformer import DiffusionTransformer
from procosm.world_model.errors import ProcosmError
from procosm.world_model.layers import fourier_features
from procosm.world_model.moments import pooled_deviation
from procosm.world_model.past import with_oldest_actions_unknown
from procosm.world_model.precision import sent
from procosm.world_model.readouts import Readouts


class Denoiser(Readouts):
    """The denoising network, what reads latents, and the losses of both."""

    stay_dense = (
        *("*_head.*", "manifold.*", "uncertainty", "net.patch_*", "net.time_*", "net.action*"),
        *("net.text.*", "net.rays.*", "net.views.*", "*modulate*"),
    )
    """What sparse training leaves alone: the heads, which judge; embeddings, modulation, the first and last layers,
    through which everything passes. Attention and MLPs, nearly all of the arithmetic, are left to it."""
    trained_whole = (
        *("*_head.*", "manifold.*", "uncertainty.*"),
        *("net.action*", "net.text.*", "net.rays.*", "net.views.*"),
    )
    """What is trained beside low-rank updates of the rest."""
    inertia: Tensor
    residual_std: Tensor

    def __init__(
        self, config: DynamicsConfig, latent_shape: tuple[int, int, int], action_size: int, state_size: int
    ) -> None:
        super().__init__()
        self.config, self.context, self.latent_shape = config, config.context, latent_shape
        told = config.context * action_size + config.context - 1 + bool(config.hidden_actions)
        size = None if config.text is None else config.text.size
        if config.camera and action_size != MOTION:
            raise ProcosmError(f"a camera is moved by {MOTION} numbers, and actions here have {action_size}")
        conditions = told, size, config.camera, config.views, config.shown is not None, config.injection
        self.net = DiffusionTransformer(config.transformer, latent_shape, config.context, *conditions)
        self.uncertainty = nn.Linear(128, 1, bias=False)  # u(σ)
        nn.init.zeros_(self.uncertainty.weight)
        sizes = config.features, config.context, latent_shape, action_size, state_size
        self.add_readouts(config.readouts, *sizes, config.action_cost)
        self.manifold = Manifold(latent_shape)
        self.mixed = False  # bfloat16 products: twice as fast where the processor has them, and coarser
        self.register_buffer("inertia", torch.zeros(latent_shape[0], 1, 1))
        self.register_buffer("residual_std", torch.ones(latent_shape[0], 1, 1))

    @property
    def conditions(self) -> frozenset[str]:
        """What it is told beside frames."""
        config = self.config
        told = {"actions": config.acts, "text": config.text, "camera": config.camera, "views": config.views}
        return frozenset(name for name, there in told.items() if there)

    @property
    def embed_text(self) -> Callable[[Sequence[str]], Tensor] | None:
        """Makes (b, l, e) of b texts; None where it takes no words."""
        return None if self.config.text is None else partial(embedded, self.config.text)

    def unit_action(self, action: Tensor) -> Tensor:
        """The task's own units to [-1, 1]; zeros where nothing that is done counts."""
        counts = self.config.acts or self.config.camera
        return super().unit_action(action) if counts else torch.zeros_like(action)

    def motion(self, actions: Tensor) -> Tensor | None:
        """(b, context, a) unit actions to what the newest does to the camera, (b, 6); None where it moves none."""
        if self.config.camera is None:
            return None
        return self.action_low + (actions[:, -1].nan_to_num(0.0) + 1) / 2 * (self.action_high - self.action_low)

    @property
    def action_columns(self) -> dict[str, int]:
        """How many actions stand among the columns of a weight, by its name."""
        layers = {
            "timestep": ("net.action.hidden_d", "net.action.hidden_3d"),
            "cross-attention": ("net.action_attention.tokens_in",),
            "channels": ("net.action_channels.channels_in",),
        }
        told = (*layers[self.config.injection], *(("net.views.told",) if self.config.views else ()))
        return dict.fromkeys((f"{layer}.weight" for layer in told), self.context)

    def frame_flops(self) -> int:
        """FLOPs of one frame by one denoising step: a pass of the network, text, camera and views left out; actions
        counted as in the timestep embedding.
        """
        told = self.net.action_size
        return pass_flops(self.config.transformer, self.latent_shape, self.context, told, self.net.masks)

    def fit_residual(self, parts: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Fit inertia by least squares, and the size of what it leaves.

        Args:
            parts: (n, context, …) latents and their next, (n, …), of each part of the data; gone through twice.
        """
        over, told, known = (0, 2, 3), list[Tensor](), list[Tensor]()
        for before, after in _changes(parts):
            told.append((before * after).sum(over))
            known.append(before.square().sum(over))
        inertia = torch.stack(told).sum(0) / torch.stack(known).sum(0).clamp_min(1e-12)
        self.inertia.copy_(inertia.clamp(0, 1).view_as(self.inertia))
        counts, means, deviations = list[int](), list[Tensor](), list[Tensor]()
        for before, after in _changes(parts):
            residual = after - self.inertia * before
            counts.append(residual[:, 0].numel())
            means.append(residual.mean(over))
            deviations.append(residual.std(over))
        deviation = pooled_deviation(counts, means, deviations)
        self.residual_std.copy_(deviation.view_as(self.residual_std).clamp_min(1e-3))

    def denoise(
        self,
        x: Tensor,
        sigma: Tensor,
        context: Tensor,
        actions: Tensor,
        net: DiffusionTransformer | None = None,
        text: Tensor | None = None,
        shown: Tensor | None = None,
    ) -> Tensor:
        """D(x; σ): the expected clean residual, (b, 1, c, h, w), in units of σ_data; actions as in ``advance``.

        Args:
            text: (b, l, e); None tells nothing.
            net: a copy of the network to take, its weights already in the dtype of the products.
            shown: (b, context), 1 where a latent is shown; None for all.
        """
        c_skip, c_out, c_in, c_noise = coefficients(sigma)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.mixed):
            told = self.moved(context), self.told(actions), text, self.motion(actions), shown
            out = (net or self.net)(c_in * x, c_noise, *told)
        return c_skip * x + c_out * out.to(x.dtype)

    def moved(self, context: Tensor) -> Tensor:
        """(b, context, c, h, w) latents to their changes, in units of the residual, and the last of them.

        What moves slowly changes a latent by less than bfloat16 tells apart: its change must be seen as such.
        """
        return torch.cat([(context[:, 1:] - context[:, :-1]) / self.residual_std, context[:, -1:]], dim=1)

    def told(self, actions: Tensor) -> Tensor:
        """(b, context, a) unit actions at the latents of the context, NaN where unknown, to what the network is told:
        those that are known, zeros for the others, and which are; the newest always is, where none is ever hidden.
        """
        if not self.config.acts:
            actions = torch.zeros_like(actions)
        known = ~actions[..., 0].isnan()
        known = known if self.config.hidden_actions else known[:, :-1]
        return torch.cat([actions.nan_to_num(0.0).flatten(1), known.to(actions.dtype)], dim=1)

    def carried(self, context: Tensor) -> Tensor:
        """(b, context, c, h, w) to (b, c, h, w): the latent that inertia alone leads to."""
        return context[:, -1] + self.inertia * (context[:, -1] - context[:, -2])

    def advance(
        self, context: Tensor, actions: Tensor, text: Tensor | None = None, shown: Tensor | None = None
    ) -> Tensor:
        """The next latent by one denoising step from zero, with gradients; (b, context, c, h, w) to (b, c, h, w).

        Args:
            actions: (b, context, a) in [-1, 1], what is done at each latent; NaN where nobody knows.
            text: (b, l, e); None tells nothing. shown: as in ``denoise``.
        """
        sigma = context.new_full((context.shape[0],), SIGMA_MAX)
        residual = self.denoise(torch.zeros_like(context[:, :1]), sigma, context, actions, text=text, shown=shown)[:, 0]
        return self.manifold(self.carried(context) + residual * (self.residual_std / SIGMA_DATA))

    def diffusion_loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """EDM loss of the first step of a window, one part of the batch at one step from zero; and the heads' loss.

        Args:
            batch: the whole batch, of which our share is computed.
        """
        k, config, window = self.context, self.config, self.standardised(batch)
        seen, clean, actions, counts = self.to_denoise(window)
        b = clean.shape[0]
        sigma = sent(sample_sigma(b, config.sigma_mean, config.sigma_std, generator), clean.device)
        noise = sent(torch.randn(clean.shape, generator=generator), clean.device)
        one_step = sent(torch.rand(b, generator=generator) < config.one_step_share, clean.device)
        if counts is not None:
            one_step = one_step & (counts > 0)  # the mean of all pictures is none
        sigma = torch.where(one_step, torch.full_like(sigma, SIGMA_MAX), sigma)
        x = torch.where(
            one_step.view(-1, 1, 1, 1, 1), torch.zeros_like(clean), clean + sigma.view(-1, 1, 1, 1, 1) * noise
        )
        if config.hidden_actions:
            hidden = sent(torch.rand(b, generator=generator) < config.hidden_actions, clean.device) & ~one_step
            newest = torch.where(hidden[:, None, None], torch.nan, actions[:, -1:])
            actions = torch.cat([actions[:, :-1], newest], dim=1)
        # Dreams advance by the one step from zero, so it alone must be right where little moves.
        weight = self.weight(window.latents[:, k : k + 1] - seen[:, -1:], window.mask[:, :1], counts)
        rows, ones = share().rows(b), one_step.sum().clamp_min(1) / share().count  # metrics of all shares are averaged
        window, x, sigma, clean, one_step = window.rows(rows), x[rows], sigma[rows], clean[rows], one_step[rows]
        text = some_untold(batch.signals.get("text"), rows)
        seen, actions, weight = seen[rows], actions[rows], weight[rows]
        shown = None if counts is None else mask_of(counts[rows], k)
        error = (self.denoise(x, sigma, seen, actions, text=text, shown=shown) - clean).square().flatten(1).mean(1)
        u = self.uncertainty(fourier_features(sigma.log() / 4, 128))[:, 0]
        loss = uncertainty_loss(error * torch.where(one_step, weight, 1.0), sigma, u)
        heads, metrics = self.head_loss(window.latents[:, : k + 1], window, 0)
        metrics |= {"one_step": (error.detach() * one_step).sum() / ones / SIGMA_DATA**2}
        return loss + heads, metrics | {"loss": loss.detach()}

    def shown_past(self, window: Batch, images: bool) -> tuple[Tensor, Tensor, Tensor | None]:
        """What the network sees of the past of windows: (b, context, c, h, w) latents; (b, context - 1 + horizon, a)
        actions, NaN where they are unknown; (b,) how many of the latents are shown, None where all always are.

        Args:
            images: whether of some windows, the pictures, nothing is shown.
        """
        k, config = self.context, self.config.shown
        seen, actions = window.latents[:, :k], with_oldest_actions_unknown(window.actions, k)
        if config is None:
            return seen, actions, None
        counts = sent(shown_counts(len(seen), k, config.fewer, config.images if images else 0.0), seen.device)
        return with_oldest_hidden(seen, counts), with_hidden_unknown(actions, counts, k), counts

    def to_denoise(self, window: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """Of the first step of windows: the past, the residual that is to be denoised, the actions, and how many
        latents are shown, as in ``shown_past``. Pictures are in units of latents, not of what changes in a step.
        """
        seen, actions, counts = self.shown_past(window, images=True)
        residual = (window.latents[:, self.context] - self.carried(seen))[:, None]
        scale = self.residual_std
        if counts is not None:
            scale = torch.where((counts > 0).view(-1, 1, 1, 1, 1), scale, torch.ones_like(scale))
        return seen, residual / scale * SIGMA_DATA, actions[:, : self.context], counts

    def weight(self, change: Tensor, mask: Tensor, counts: Tensor | None = None) -> Tensor:
        """(b,), of mean 1: an error counts the more, the less moves in its window.

        What a good policy lives through is slow. Without this the fast windows have all the say, and forces too weak to
        matter to them come to nothing: a pole that leans a little stands still.

        Args:
            change: (b, t, c, h, w), of the latents in each step. mask: (b, t), 1 where the step exists.
            counts: (b,), latents that are shown. Where they are fewer nobody can know what moves, and the weight is 1:
                else what mostly moves would be expected to stand still.
        """
        moves = ((change / self.residual_std).square().flatten(2).mean(2) * mask).sum(1) / mask.sum(1).clamp_min(1)
        weight = (moves + self.config.slowest).rsqrt()
        weight = weight / weight.mean()
        return weight if counts is None else torch.where(counts < self.context, torch.ones_like(weight), weight)

    def true_reading(self, window: Batch) -> Tensor:
        """(b, horizon, s), standardised: what is to be read after each step, true state or features of real latents."""
        if "state" in self.readouts:
            return window.signals["state"][:, self.context :]
        after = window.latents[:, 1:].unfold(1, self.context, 1).movedim(-1, 2)  # (b, horizon, context, c, h, w)
        with torch.no_grad():
            return self.reader(after.flatten(0, 1)).unflatten(0, after.shape[:2])

    def unrolled_loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Self-forced loss: the network lives on its own predictions for the window's whole horizon.

        The gradient passes through every step. Errors are in units of the residual, and the frozen head asks for the
        true state, or real features, too: it weighs the few latents that carry a fingertip as much as the many that do
        not.

        Args:
            batch: the whole batch, of which our share is computed.
        """
        k, window = self.context, self.standardised(batch)
        rows = share().rows(len(window.latents))
        sequence, actions, counts = self.shown_past(window, images=False)
        weight = self.weight(window.latents[:, k:] - window.latents[:, k - 1 : -1], window.mask, counts)[rows]
        sequence, actions, horizon, window = sequence[rows], actions[rows], window.mask.shape[1], window.rows(rows)
        shown = None if counts is None else F.pad(mask_of(counts[rows], k), (0, horizon), value=1.0)
        truth, text = self.true_reading(window), some_untold(batch.signals.get("text"), rows)
        total = sequence.new_zeros(())
        sums: dict[str, Tensor] = {}
        for h in range(horizon):
            mask = None if shown is None else shown[:, h : h + k]
            latent = self.advance(sequence[:, -k:], actions[:, h : h + k], text, mask)
            sequence = torch.cat([sequence, latent[:, None]], dim=1)
            error = ((latent - window.latents[:, k + h]) / self.residual_std).square().flatten(1).mean(1)
            read = self.reader(sequence[:, -k:])
            read_error = F.smooth_l1_loss(read, truth[:, h], reduction="none").mean(1)
            heads, metrics = self.head_loss(sequence[:, -k - 1 :], window, h)
            mask = window.mask[:, h]
            weighed = ((error + self.config.state_weight * read_error / 0.1) * mask * weight).mean()
            total = total + (weighed + heads) / horizon
            metrics |= {"latent": (error * mask).mean().detach(), self.read_name: (read_error * mask).mean().detach()}
            sums = {name: sums.get(name, 0) + value / horizon for name, value in metrics.items()}
        return total, sums | {"loss": total.detach()}


def _changes(parts: Iterable[tuple[Tensor, Tensor]]) -> Iterator[tuple[Tensor, Tensor]]:
    """How the last of (n, context, …) latents came about, and how their next do."""
    return ((context[:, -1] - context[:, -2], latent - context[:, -1]) for context, latent in parts)
