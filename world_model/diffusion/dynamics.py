"""Diffusion dynamics: the next latent by EDM denoising, then what it means (Cosmos §5.1 and §6, arXiv 2501.03575).

The network denoises what inertia does not explain of the latent's change, in units of its typical size: what stays
still, or moves on as it did, costs nothing to predict. One denoising step from zero gives the mean of the next latent;
it is trained directly, as a part of every batch, and it is the step that self-forced training unrolls (see
``prototype`` in LOG.md: more steps were worse on deterministic tasks). Each step ends on the manifold of real latents,
or errors would add up beside it. The network is told what was done at every latent it sees, for the changes that it
sees are their work (LOG.md, "What was just done").
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.world_model.conditioning.rays import MOTION
from procosm.world_model.conditioning.text import checked_text, embedded, some_untold
from procosm.world_model.data.batch import Batch
from procosm.world_model.data.share import share
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.cost import pass_flops
from procosm.world_model.diffusion.manifold import Manifold
from procosm.world_model.diffusion.memory import DiffusionMemory
from procosm.world_model.diffusion.one_step import OneStep
from procosm.world_model.diffusion.precondition import (
    SIGMA_DATA,
    SIGMA_MAX,
    coefficients,
    sample_sigma,
    uncertainty_loss,
)
from procosm.world_model.diffusion.sampler import noise_for, sample, sigmas_for
from procosm.world_model.diffusion.transformer import DiffusionTransformer
from procosm.world_model.errors import ProcosmError
from procosm.world_model.graphs import Recorder, fingerprint
from procosm.world_model.interface import MEAN, Condition, Prediction, Sampling
from procosm.world_model.layers import fourier_features
from procosm.world_model.past import context_window, past_actions, with_oldest_actions_unknown
from procosm.world_model.precision import sent
from procosm.world_model.readouts import Readouts


class DiffusionDynamics(Readouts):
    """Satisfies :class:`procosm.world_model.interface.Dynamics`."""

    stay_dense = (
        *("*_head.*", "manifold.*", "uncertainty", "net.patch_*", "net.time_*", "net.action.*"),
        *("net.text.*", "net.rays.*", "net.views.*", "*modulate*"),
    )
    """What sparse training leaves alone: the heads, which judge; embeddings, modulation, the first and last layers,
    through which everything passes. Attention and MLPs, nearly all of the arithmetic, are left to it."""
    trained_whole = (
        *("*_head.*", "manifold.*", "uncertainty.*"),
        *("net.action.*", "net.text.*", "net.rays.*", "net.views.*"),
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
        conditions = size, config.camera, config.views
        self.net = DiffusionTransformer(config.transformer, latent_shape, config.context, told, *conditions)
        self.uncertainty = nn.Linear(128, 1, bias=False)  # u(σ)
        nn.init.zeros_(self.uncertainty.weight)
        self.add_readouts(config.readouts, config.features, config.context, latent_shape, action_size, state_size)
        self.manifold = Manifold(latent_shape)
        self.mixed = False  # bfloat16 products: twice as fast where the processor has them, and coarser
        self._one_step: tuple[object, OneStep] | None = None
        self._recorder = Recorder()
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
        return dict.fromkeys(("net.action.hidden_d.weight", "net.action.hidden_3d.weight"), self.context)

    def frame_flops(self) -> int:
        """FLOPs of one frame by one denoising step: a pass of the network, text, camera and views left out."""
        told = self.net.action.hidden_d.in_features
        return pass_flops(self.config.transformer, self.latent_shape, self.context, told)

    def fit_residual(self, context: Tensor, latent: Tensor) -> None:
        """Fit inertia by least squares, and the size of what it leaves, to (n, context, …) latents and their next."""
        before, after = context[:, -1] - context[:, -2], latent - context[:, -1]
        over = (0, 2, 3)
        inertia = (before * after).sum(over) / before.square().sum(over).clamp_min(1e-12)
        self.inertia.copy_(inertia.clamp(0, 1).view_as(self.inertia))
        residual = after - self.inertia * before
        self.residual_std.copy_(residual.std(over).view_as(self.residual_std).clamp_min(1e-3))

    def denoise(
        self,
        x: Tensor,
        sigma: Tensor,
        context: Tensor,
        actions: Tensor,
        net: DiffusionTransformer | None = None,
        text: Tensor | None = None,
    ) -> Tensor:
        """D(x; σ): the expected clean residual, (b, 1, c, h, w), in units of σ_data; actions as in ``advance``.

        Args:
            text: (b, l, e); None tells nothing.
            net: a copy of the network to take, its weights already in the dtype of the products.
        """
        c_skip, c_out, c_in, c_noise = coefficients(sigma)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.mixed):
            told = self.moved(context), self.told(actions), text, self.motion(actions)
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

    def advance(self, context: Tensor, actions: Tensor, text: Tensor | None = None) -> Tensor:
        """The next latent by one denoising step from zero, with gradients; (b, context, c, h, w) to (b, c, h, w).

        Args:
            actions: (b, context, a) in [-1, 1], what is done at each latent; NaN where nobody knows.
            text: (b, l, e); None tells nothing.
        """
        sigma = context.new_full((context.shape[0],), SIGMA_MAX)
        residual = self.denoise(torch.zeros_like(context[:, :1]), sigma, context, actions, text=text)[:, 0]
        return self.manifold(self.carried(context) + residual * (self.residual_std / SIGMA_DATA))

    def one_step(self) -> OneStep:
        """The network of one step from zero, prepared again whenever a weight or ``mixed`` has changed."""
        key = (fingerprint(self.net), self.mixed)
        if self._one_step is None or self._one_step[0] != key:
            dtype = torch.bfloat16 if self.mixed else self.net.patch_in.weight.dtype
            self._one_step = (key, OneStep(self.net, dtype))
        return self._one_step[1]

    @torch.inference_mode()
    def begin(self, latents: Tensor, condition: Condition | None = None) -> DiffusionMemory:
        """See :class:`procosm.world_model.interface.Dynamics`."""
        seen = context_window(latents, self.context).clone()
        actions = past_actions(latents, condition, self.context, len(self.action_low))
        text = checked_text(self.config.text, condition, seen)
        return DiffusionMemory(seen, actions, self.reader.physical(self.reader(seen)), text)

    def read(self, memory: DiffusionMemory) -> Mapping[str, Tensor]:
        """See :class:`procosm.world_model.interface.Dynamics`."""
        return dict.fromkeys(self.readouts & {"state", "features"}, memory.read)

    @torch.inference_mode()
    def step(
        self,
        memory: DiffusionMemory,
        action: Tensor,
        draws: Sequence[np.random.Generator] | None = None,
        sampling: Sampling = MEAN,
    ) -> tuple[DiffusionMemory, Prediction]:
        """See :class:`procosm.world_model.interface.Dynamics`."""
        taken, guidance = memory.with_action(action), self._guidance(sampling)
        inputs = (memory.latents, self.unit_action(taken), self.reader.standardise(memory.read), memory.text)
        if sampling.steps == 1:
            mean = partial(self._step_of_mean, guidance)
            told = self._recorder(mean, lambda: (fingerprint(self), self.mixed, guidance), *inputs)
        else:
            noise = noise_for(draws, sampling, self.latent_shape, inputs[0])
            step = partial(self._step_of_noise, sampling, guidance)
            told = self._recorder(step, lambda: (fingerprint(self), self.mixed, sampling, guidance), *inputs, *noise)
        latents, reward, termination, read = told
        moved = torch.cat([memory.latents[:, 1:], latents[:, None]], dim=1)
        after = DiffusionMemory(moved, taken[:, 1:], read, memory.text)
        return after, Prediction(latents, self.named(reward, termination, read))

    def _guidance(self, sampling: Sampling) -> float:
        """How far predictions are moved away from those for no text and a hidden action.

        Raises:
            ProcosmError: it has not learned what comes without.
        """
        weight = self.config.guidance if sampling.guidance is None else sampling.guidance
        if weight and sampling.steps > 1 and not (self.config.hidden_actions or self.config.text):
            raise ProcosmError("guidance asks what happens whatever is done: train with hidden_actions, or with text")
        return weight

    def _step_of_mean(
        self, guidance: float, context: Tensor, unit: Tensor, before: Tensor, text: Tensor
    ) -> tuple[Tensor, ...]:
        c_out = coefficients(context.new_full((1,), SIGMA_MAX))[1]
        step, seen, told, motion = self.one_step(), self.moved(context), self.told(unit), self.motion(unit)
        found = step(seen, told, text, motion)
        if guidance and self.config.text:  # actions are hidden of noisy latents alone
            found = found + guidance * (found - step(seen, told, None, motion))
        residual = (c_out * found)[:, 0]
        return self._outcome(context, residual, unit, before)

    def _step_of_noise(
        self,
        sampling: Sampling,
        guidance: float,
        context: Tensor,
        unit: Tensor,
        before: Tensor,
        text: Tensor,
        first: Tensor,
        *others: Tensor,
    ) -> tuple[Tensor, ...]:
        net = self.one_step().net if self.mixed else self.net
        sigmas = sigmas_for(sampling, context.device).to(context.dtype)
        hidden = unit
        if self.config.hidden_actions:
            hidden = torch.cat([unit[:, :-1], torch.full_like(unit[:, -1:], torch.nan)], dim=1)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            clean = self.denoise(x, sigma.expand(len(x)), context, unit, net, text)
            if not guidance:
                return clean
            return clean + guidance * (clean - self.denoise(x, sigma.expand(len(x)), context, hidden, net))

        noise = [each[:, None] for each in others]
        residual = sample(denoise, first[:, None] * SIGMA_MAX, sigmas, sampling, noise)[:, 0]
        return self._outcome(context, residual, unit, before)

    def _outcome(self, context: Tensor, residual: Tensor, unit: Tensor, before: Tensor) -> tuple[Tensor, ...]:
        """The latents that a residual leads to, reward, probability of the end, and the state or features read off.

        Args:
            before: (b, s), what was read before, standardised.
        """
        latent = self.manifold(self.carried(context) + residual * (self.residual_std / SIGMA_DATA))
        after = torch.cat([context[:, 1:], latent[:, None]], dim=1)
        return latent, *self.outcome(context[:, -1], before, after, unit[:, -1])

    def diffusion_loss(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
        """EDM loss of the first step of a window, one part of the batch at one step from zero; and the heads' loss.

        Args:
            batch: the whole batch, of which our share is computed.
        """
        k, config, window = self.context, self.config, self.standardised(batch)
        seen, clean = self.to_denoise(window)
        b = clean.shape[0]
        sigma = sent(sample_sigma(b, config.sigma_mean, config.sigma_std, generator), clean.device)
        noise = sent(torch.randn(clean.shape, generator=generator), clean.device)
        one_step = sent(torch.rand(b, generator=generator) < config.one_step_share, clean.device)
        sigma = torch.where(one_step, torch.full_like(sigma, SIGMA_MAX), sigma)
        x = torch.where(
            one_step.view(-1, 1, 1, 1, 1), torch.zeros_like(clean), clean + sigma.view(-1, 1, 1, 1, 1) * noise
        )
        actions = with_oldest_actions_unknown(window.actions, k)[:, :k]
        if config.hidden_actions:
            hidden = sent(torch.rand(b, generator=generator) < config.hidden_actions, clean.device) & ~one_step
            newest = torch.where(hidden[:, None, None], torch.nan, actions[:, -1:])
            actions = torch.cat([actions[:, :-1], newest], dim=1)
        # Dreams advance by the one step from zero, so it alone must be right where little moves.
        weight = self.weight(window.latents[:, k : k + 1] - seen[:, -1:], window.mask[:, :1])
        rows, ones = share().rows(b), one_step.sum().clamp_min(1) / share().count  # metrics of all shares are averaged
        window, x, sigma, clean, one_step = window.rows(rows), x[rows], sigma[rows], clean[rows], one_step[rows]
        text = some_untold(batch.signals.get("text"), rows)
        seen, actions, weight = seen[rows], actions[rows], weight[rows]
        error = (self.denoise(x, sigma, seen, actions, text=text) - clean).square().flatten(1).mean(1)
        u = self.uncertainty(fourier_features(sigma.log() / 4, 128))[:, 0]
        loss = uncertainty_loss(error * torch.where(one_step, weight, 1.0), sigma, u)
        heads, metrics = self.head_loss(window.latents[:, : k + 1], window, 0)
        metrics |= {"one_step": (error.detach() * one_step).sum() / ones / SIGMA_DATA**2}
        return loss + heads, metrics | {"loss": loss.detach()}

    def to_denoise(self, window: Batch) -> tuple[Tensor, Tensor]:
        """The past of the first step of windows, (b, context, c, h, w), and the residual that is to be denoised."""
        seen = window.latents[:, : self.context]
        residual = (window.latents[:, self.context] - self.carried(seen))[:, None] / self.residual_std
        return seen, residual * SIGMA_DATA

    def weight(self, change: Tensor, mask: Tensor) -> Tensor:
        """(b,), of mean 1: an error counts the more, the less moves in its window.

        What a good policy lives through is slow. Without this the fast windows have all the say, and forces too weak to
        matter to them come to nothing: a pole that leans a little stands still.

        Args:
            change: (b, t, c, h, w), of the latents in each step. mask: (b, t), 1 where the step exists.
        """
        moves = ((change / self.residual_std).square().flatten(2).mean(2) * mask).sum(1) / mask.sum(1).clamp_min(1)
        weight = (moves + self.config.slowest).rsqrt()
        return weight / weight.mean()

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
        weight = self.weight(window.latents[:, k:] - window.latents[:, k - 1 : -1], window.mask)[rows]
        horizon, actions, window = (
            window.mask.shape[1],
            with_oldest_actions_unknown(window.actions, k)[rows],
            window.rows(rows),
        )
        truth, text = self.true_reading(window), some_untold(batch.signals.get("text"), rows)
        sequence = window.latents[:, :k]
        total = sequence.new_zeros(())
        sums: dict[str, Tensor] = {}
        for h in range(horizon):
            latent = self.advance(sequence[:, -k:], actions[:, h : h + k], text)
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
