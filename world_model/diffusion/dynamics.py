"""Diffusion dynamics as dreams take them: a denoiser that goes on step by step, and tells what each step means."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from procosm.world_model.conditioning.frames import mask_of
from procosm.world_model.conditioning.text import checked_text
from procosm.world_model.diffusion.config import DynamicsConfig
from procosm.world_model.diffusion.denoiser import Denoiser
from procosm.world_model.diffusion.memory import DiffusionMemory
from procosm.world_model.diffusion.one_step import OneStep
from procosm.world_model.diffusion.precondition import SIGMA_DATA, SIGMA_MAX
from procosm.world_model.diffusion.sampler import noise_for, sample, sigmas_for
from procosm.world_model.errors import ProcosmError
from procosm.world_model.graphs import Recorder, fingerprint
from procosm.world_model.interface import MEAN, Condition, Prediction, Sampling
from procosm.world_model.past import context_window, past_actions

FIRST_STEPS = 18
"""Denoising steps of a dream's first frame, where none is given: those of Karras et al. 2022 for small pictures."""


class DiffusionDynamics(Denoiser):
    """Satisfies :class:`procosm.world_model.interface.Dynamics`."""

    def __init__(
        self, config: DynamicsConfig, latent_shape: tuple[int, int, int], action_size: int, state_size: int
    ) -> None:
        super().__init__(config, latent_shape, action_size, state_size)
        self._one_step: tuple[object, OneStep] | None = None
        self._recorder = Recorder()

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
        there = torch.full((len(seen),), min(latents.shape[1], self.context), device=seen.device)
        shown = mask_of(there, self.net.masks).to(seen.dtype) if self.net.masks else seen.new_empty(len(seen), 0)
        return DiffusionMemory(seen, actions, self.reader.physical(self.reader(seen)), text, shown)

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
        inputs = self._inputs(memory, taken)
        if sampling.steps == 1:
            mean = partial(self._step_of_mean, guidance)
            told = self._recorder(mean, lambda: (fingerprint(self), self.mixed, guidance), *inputs)
        else:
            noise = noise_for(draws, sampling, self.latent_shape, inputs[0])
            step = partial(self._step_of_noise, sampling, guidance)
            told = self._recorder(step, lambda: (fingerprint(self), self.mixed, sampling, guidance), *inputs, *noise)
        return self._told(memory, taken, told)

    def step_with_gradient(self, memory: DiffusionMemory, action: Tensor) -> tuple[DiffusionMemory, Prediction]:
        """See :class:`procosm.world_model.interface.DifferentiableDynamics`."""
        taken = memory.with_action(action)
        return self._told(memory, taken, self._step_of_mean(self._guidance(MEAN), *self._inputs(memory, taken)))

    def _inputs(self, memory: DiffusionMemory, taken: Tensor) -> tuple[Tensor, ...]:
        read = self.reader.standardise(memory.read)
        return memory.latents, self.unit_action(taken), read, memory.text, memory.shown

    def _told(
        self, memory: DiffusionMemory, taken: Tensor, outcome: tuple[Tensor, ...]
    ) -> tuple[DiffusionMemory, Prediction]:
        """What is remembered after a step under (b, context, a) actions, and what it led to."""
        latents, moved, reward, termination, read, *success = outcome
        shown = memory.shown_next() if self.net.masks else memory.shown
        after = DiffusionMemory(moved, taken[:, 1:], read, memory.text, shown)
        return after, Prediction(latents, self.named(reward, termination, read, *success))

    @property
    def fewest(self) -> int:
        """Frames that a dream can begin with, at least, and the network is told so; of fewer the first stood still."""
        shown = self.config.shown
        return self.context if shown is None else 0 if shown.images else 1

    @torch.inference_mode()
    def first(self, draws: Sequence[np.random.Generator], sampling: Sampling, text: Tensor | None = None) -> Tensor:
        """(b, c, h, w), what dreams see first that begin with no frame, drawn in no fewer than ``FIRST_STEPS`` steps.

        Args:
            draws: b generators. text: (b, l, e); None tells nothing.

        Raises:
            ProcosmError: it has not learned pictures by themselves.
        """
        if self.fewest:
            raise ProcosmError("it has learned no first frame: give one, or train it with `procosm train --images .1`")
        sampling, k = replace(sampling, steps=max(sampling.steps, FIRST_STEPS)), self.context
        context = self.inertia.new_zeros(len(draws), k, *self.latent_shape)
        unknown = context.new_full((len(draws), k, len(self.action_low)), torch.nan)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            shown = context.new_zeros(len(x), k)
            return self.denoise(x, sigma.expand(len(x)), context, unknown, text=text, shown=shown)

        start, *others = (each[:, None] for each in noise_for(draws, sampling, self.latent_shape, context))
        drawn = sample(denoise, start * SIGMA_MAX, sigmas_for(sampling, context.device), sampling, others)[:, 0]
        return self.manifold(drawn / SIGMA_DATA)

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
        self, guidance: float, context: Tensor, unit: Tensor, before: Tensor, text: Tensor, shown: Tensor
    ) -> tuple[Tensor, ...]:
        step, seen, told, motion = self.one_step(), self.moved(context), self.told(unit), self.motion(unit)
        found = step(seen, told, text, motion, shown)
        if guidance and self.config.text:  # actions are hidden of noisy latents alone
            found = found + guidance * (found - step(seen, told, None, motion, shown))
        return self._outcome(context, found[:, 0], unit, before)

    def _step_of_noise(
        self,
        sampling: Sampling,
        guidance: float,
        context: Tensor,
        unit: Tensor,
        before: Tensor,
        text: Tensor,
        shown: Tensor,
        first: Tensor,
        *others: Tensor,
    ) -> tuple[Tensor, ...]:
        net = self.one_step().net if self.mixed else self.net
        sigmas = sigmas_for(sampling, context.device).to(context.dtype)
        hidden = unit
        if self.config.hidden_actions:
            hidden = torch.cat([unit[:, :-1], torch.full_like(unit[:, -1:], torch.nan)], dim=1)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            clean = self.denoise(x, sigma.expand(len(x)), context, unit, net, text, shown)
            if not guidance:
                return clean
            return clean + guidance * (clean - self.denoise(x, sigma.expand(len(x)), context, hidden, net, shown=shown))

        noise = [each[:, None] for each in others]
        residual = sample(denoise, first[:, None] * SIGMA_MAX, sigmas, sampling, noise)[:, 0]
        return self._outcome(context, residual, unit, before)

    def _outcome(self, context: Tensor, residual: Tensor, unit: Tensor, before: Tensor) -> tuple[Tensor, ...]:
        """The latents that a residual leads to, the context that ends with them, and their ``outcome``.

        Args:
            before: (b, s), what was read before, standardised.
        """
        latent = self.manifold(self.carried(context) + residual * (self.residual_std / SIGMA_DATA))
        after = torch.cat([context[:, 1:], latent[:, None]], dim=1)
        return latent, after, *self.outcome(context[:, -1], before, after, unit[:, -1])
