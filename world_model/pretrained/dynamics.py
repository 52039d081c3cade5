"""A published video model as dynamics: each step draws the rest of a video whose first latents are given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from procosm.world_model.diffusion.sampler import noise_for, sample, standard_normal
from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import MEAN, Condition, Prediction, Sampling, Tokenizer
from procosm.world_model.past import context_window
from procosm.world_model.pretrained.config import CosmosTransformerConfig
from procosm.world_model.pretrained.memory import GivenLatents
from procosm.world_model.pretrained.sampling import Network, NoiseConfig, c_out, denoised, sigmas
from procosm.world_model.pretrained.tokenizer import PretrainedTokenizer
from procosm.world_model.pretrained.transformer import CosmosTransformer

Count = Annotated[int, Field(ge=1, le=1024)]


@dataclass(frozen=True)
class PretrainedDynamicsConfig:
    """A published transformer, and how its videos are drawn and joined."""

    transformer: CosmosTransformerConfig = field(default_factory=lambda: CosmosTransformerConfig(in_channels=17))
    noise: NoiseConfig = field(default_factory=NoiseConfig)
    given: Count = 1
    """Latents of the past that each video begins with."""
    drawn: Count = 1
    """Latents that follow them, all at once: those of one step."""
    actions: Literal["none", "together", "each"] = "none"
    """``none``: the model takes no actions. ``together``: one embedding of a step's actions (Predict2); ``each``: one
    for the actions of each latent, none for the given ones (Predict2.5)."""
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    """Frames per second that the model is told of."""
    guidance: Annotated[float, Field(ge=0, le=100)] = 0.0
    """How far predictions are moved away from those for the negative text."""
    text_tokens: Annotated[int, Field(ge=1, le=4096)] = 1
    """Of the text that is told, and of the negative one."""

    def __post_init__(self) -> None:
        if not self.transformer.conditioned:
            raise ProcosmError(
                f"a transformer of {self.transformer.in_channels} channels in and {self.transformer.out_channels} out "
                "makes a world of text alone: to dream on from frames it needs one channel more, which says what is "
                "given"
            )


class PretrainedDynamics(nn.Module):
    """Satisfies :class:`procosm.world_model.interface.Dynamics`; it tells latents and frames alone."""

    readouts: frozenset[str] = frozenset()
    stay_dense = ("net.patch_*", "net.time_*", "net.text_in", "net.action.*", "*modulate*")
    """What low-rank updates leave alone; attention and MLPs are left to them."""
    trained_whole = ("net.action.*",)
    """What is trained beside low-rank updates of the rest."""
    text: Tensor
    negative: Tensor
    action_scale: Tensor

    def __init__(
        self,
        config: PretrainedDynamicsConfig,
        tokenizer: Tokenizer,
        action_size: int,
        weights: CosmosTransformer | None = None,
    ) -> None:
        """Room for text and the scale of actions, and for weights that are not there already.

        Args:
            tokenizer: of the latents. Where a step is several frames, it is asked what they look like, and what the
                next video begins with.
            weights: the transformer of this config, if it is there already.

        Raises:
            ProcosmError: the transformer is not of these latents, or no such steps can be made of them.
        """
        super().__init__()
        shape, k, net = tokenizer.spec.shape, tokenizer.spec.frames_per_latent, config.transformer
        self.config, self.latent_shape, self.mixed = config, shape, False
        self.context, self.frames_per_step = config.given, config.drawn * k
        _check_latents(net, shape, config.given + config.drawn)
        self._tokenizer: tuple[PretrainedTokenizer, ...] = ()  # not a module of it: it is stored by itself
        if self.frames_per_step > 1:
            if not isinstance(tokenizer, PretrainedTokenizer):
                raise ProcosmError(
                    f"{config.drawn} latents of {k} frames for a step: a step of several frames takes a published "
                    f"tokenizer, not {type(tokenizer).__name__}"
                )
            self._tokenizer = (tokenizer,)
        slots = {"none": 0, "together": self.frames_per_step, "each": k}[config.actions]
        self.net = weights or CosmosTransformer(net, slots * action_size or None)
        embedding = ("net.action.hidden_d.weight", "net.action.hidden_3d.weight")
        self.action_columns = dict.fromkeys(embedding, slots) if slots else {}
        width = net.crossattn_proj_in_channels if net.use_crossattn_projection else net.text_embed_dim
        for name in ("text", "negative"):
            self.register_buffer(name, torch.zeros(config.text_tokens, width))
        self.register_buffer("action_scale", torch.ones(action_size))

    @property
    def conditions(self) -> frozenset[str]:
        """What it is told beside frames; its text stands beside the weights."""
        return frozenset({"text"} if self.config.actions == "none" else {"actions", "text"})

    @torch.inference_mode()
    def begin(self, latents: Tensor, condition: Condition | None = None) -> GivenLatents:
        """See :class:`procosm.world_model.interface.Dynamics`; past actions are not made use of."""
        return GivenLatents(context_window(latents, self.context).clone())

    def read(self, memory: GivenLatents) -> Mapping[str, Tensor]:
        """See :class:`procosm.world_model.interface.Dynamics`."""
        return {}

    @torch.inference_mode()
    def step(
        self,
        memory: GivenLatents,
        action: Tensor,
        draws: Sequence[np.random.Generator] | None = None,
        sampling: Sampling = MEAN,
    ) -> tuple[GivenLatents, Prediction]:
        """See :class:`procosm.world_model.interface.Dynamics`; one denoising step takes the mean."""
        latents = self._video(memory.latents, self._told(action), None if sampling.steps == 1 else draws, sampling)
        if not self._tokenizer:
            kept = torch.cat([memory.latents, latents], dim=1)[:, -self.context :]
            return GivenLatents(kept), Prediction(latents[:, -1], {})
        (tokenizer,) = self._tokenizer
        video = tokenizer.to_pixels(torch.cat([memory.latents, latents], dim=1))
        # Coded again, for the first latent of a video is one frame; not rounded, which would double small differences.
        again = 1 + (self.context - 1) * tokenizer.spec.frames_per_latent
        kept = tokenizer.to_latents(video[:, :, -again:])
        return GivenLatents(kept), Prediction(
            kept[:, -1], {}, tokenizer.to_frames(video[:, :, -self.frames_per_step :])
        )

    def loss(self, video: Tensor, actions: Tensor, mask: Tensor, mean: bool, generator: torch.Generator) -> Tensor:
        """Denoising loss of the latents after the given ones, weighed as an error of the network's output.

        Noise levels are drawn as the released code has it, ln σ ~ N(0, 1): of a velocity that is a logit-normal time.

        Args:
            video: (1, given + drawn, c, h, w) standardised latents.
            actions: (1, frames of a step, a), in the task's units. mask: (1, frames of a step), 1 where it exists.
            mean: train the step from the highest noise level and no noise, by which dreams take the mean.
        """
        noise, n = self.config.noise, self.config.given
        clean = video.transpose(1, 2) * noise.sigma_data
        sigma = torch.randn((), generator=generator).exp().clamp(2 * noise.given_sigma, noise.sigma_max).to(clean)
        x = clean + sigma * torch.randn(clean.shape, generator=generator).to(clean)
        if mean:
            sigma, x = torch.full_like(sigma, noise.sigma_max), torch.zeros_like(clean)
        action = self._told(actions[:, 0] if self.frames_per_step == 1 else actions)
        found = denoised(noise, self._network(self._mask(clean), action, 0.0), x, sigma, clean[:, :, :n], None)
        there = mask.view(1, 1, self.config.drawn, -1).amin(3)[..., None, None]
        return ((found - clean)[:, :, n:].square() * there).mean() / c_out(noise, sigma) ** 2

    def _told(self, action: Tensor) -> Tensor | None:
        """(b, a) or (b, frames, a) in the task's own units to what the network takes."""
        if self.config.actions == "none":
            return None
        scaled = (action * self.action_scale).view(len(action), self.config.drawn, -1)
        return scaled if self.config.actions == "each" else scaled.flatten(1)

    def _video(
        self, past: Tensor, action: Tensor | None, draws: Sequence[np.random.Generator] | None, sampling: Sampling
    ) -> Tensor:
        """(b, drawn, c, h, w) latents that follow (b, given, c, h, w)."""
        config, noise = self.config, self.config.noise
        guidance = config.guidance if sampling.guidance is None else sampling.guidance
        given = past.transpose(1, 2) * noise.sigma_data
        b, c, n, h, w = given.shape
        network = self._network(self._mask(given.new_zeros(b, c, n + config.drawn, h, w)), action, guidance)

        def denoise(x: Tensor, sigma: Tensor) -> Tensor:
            small = None if draws is None or noise.family == "flow" else standard_normal(draws, given.shape[1:], given)
            return denoised(noise, network, x, sigma, given, small)

        shape = (c, n + config.drawn, h, w)
        if sampling.steps == 1:
            x = denoise(given.new_zeros(b, *shape), given.new_tensor(noise.sigma_max))
        else:
            levels = sigmas(noise, sampling.steps).to(given)
            first, *others = noise_for(draws, sampling, shape, given)
            x = sample(denoise, levels[0] * first, levels, sampling, others)
        return x[:, :, n:].transpose(1, 2) / noise.sigma_data

    def _mask(self, video: Tensor) -> Tensor:
        """(b, 1, t, h, w): 1 where latents of a (b, c, t, h, w) video are given."""
        mask = torch.zeros_like(video[:, :1])
        mask[:, :, : self.config.given] = 1
        return mask

    def _network(self, mask: Tensor, action: Tensor | None, guidance: float) -> Network:
        """The network told of text and action, moved away from what it says of the negative text."""

        def network(scaled: Tensor, levels: Tensor) -> Tensor:
            told = levels[:, 0] if self.config.noise.family == "edm" else levels
            found = self._told_by(self.text, scaled, told, mask, action)
            if guidance == 0:
                return found
            return found + guidance * (found - self._told_by(self.negative, scaled, told, mask, action))

        return network

    def _told_by(self, text: Tensor, scaled: Tensor, levels: Tensor, mask: Tensor, action: Tensor | None) -> Tensor:
        """The network's output, given (s, text) embeddings of a text."""
        dtype = self.net.patch_in.weight.dtype
        with torch.autocast(scaled.device.type, torch.bfloat16, enabled=self.mixed):
            return self.net(
                scaled.to(dtype),
                levels,
                text.to(dtype).expand(len(scaled), -1, -1),
                fps=self.config.fps,
                condition_mask=mask,
                action=None if action is None else action.to(dtype),
            )


def _check_latents(net: CosmosTransformerConfig, shape: tuple[int, int, int], frames: int) -> None:
    """Refuse latents (c, h, w), so many of them, that a transformer cannot take."""
    (c, h, w), (pt, ph, pw) = shape, net.patch_size
    if c != net.out_channels or h % ph or w % pw or pt != 1:
        raise ProcosmError(
            f"latents of {shape} for a transformer of {net.out_channels} channels and patches of {net.patch_size}: the "
            "channels must be the same, and the patch must divide the sides"
        )
    size = (frames, h, w)
    if net.extra_pos_embed_type and any(n > most for n, most in zip(size, net.max_size, strict=True)):
        raise ProcosmError(f"latents of {size} along time, height and width, but positions for {net.max_size}")
