"""NVIDIA's published diffusion transformer (Cosmos §5.1, arXiv 2501.03575; Predict2.5, arXiv 2511.00062).

It computes what ``CosmosTransformer3DModel`` of diffusers does, from the same weights. Where that one computes in
float32 whatever the weights are in (mean squares, rotations, features of the noise level), this one does too.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.world_model.conditioning.actions import ActionEmbedding
from procosm.world_model.errors import ProcosmError
from procosm.world_model.layers import AdaLNLoRA
from procosm.world_model.pretrained.config import CosmosTransformerConfig
from procosm.world_model.pretrained.transformer_layers import CosmosBlock, RMSNorm, modulated
from procosm.world_model.rope import scaled_angles, turns


class AxisPositions(nn.Module):
    """Learned absolute positions, one for each place along each axis; their sum is scaled to a mean square of 1."""

    def __init__(self, config: CosmosTransformerConfig) -> None:
        super().__init__()
        longest = [size // p for size, p in zip(config.max_size, config.patch_size, strict=True)]
        self.t, self.h, self.w = (nn.Parameter(torch.zeros(n, config.width)) for n in longest)

    def forward(self, size: tuple[int, int, int]) -> Tensor:
        """(t h w, d) float32 for (t, h, w) tokens.

        Raises:
            ProcosmError: there are not so many positions.
        """
        longest = (len(self.t), len(self.h), len(self.w))
        if any(n > most for n, most in zip(size, longest, strict=True)):
            raise ProcosmError(f"{size} tokens along time, height and width, but there are positions for {longest}")
        t, h, w = (each[:n].float() for each, n in zip((self.t, self.h, self.w), size, strict=True))
        total = (t[:, None, None] + h[None, :, None] + w[None, None]).flatten(0, 2)
        norm = torch.linalg.vector_norm(total, dim=-1, keepdim=True)
        return total / torch.add(1e-6, norm, alpha=total.shape[-1] ** -0.5)


def noise_features(timestep: Tensor, width: int) -> Tensor:
    """(n,) to (n, width) float32: cosines and sines at geometric frequencies."""
    half = width // 2
    frequency = torch.exp(-math.log(10000) * torch.arange(half, dtype=torch.float32, device=timestep.device) / half)
    phase = timestep[:, None].float() * frequency
    return torch.cat([phase.cos(), phase.sin()], dim=-1)


class CosmosTransformer(nn.Module):
    """F(latents; noise level, text, what is given): the raw network inside the preconditioning."""

    def __init__(self, config: CosmosTransformerConfig, action_size: int | None = None) -> None:
        """``action_size``: numbers of a chunk's actions that one embedding reads; None takes no actions."""
        super().__init__()
        self.config, self.action_size, d = config, action_size, config.width
        channels = config.in_channels + config.concat_padding_mask
        self.patch_in = nn.Linear(channels * config.patch_values, d, bias=False)
        self.positions = AxisPositions(config) if config.extra_pos_embed_type else None
        self.time_hidden, self.time_out = nn.Linear(d, d, bias=False), nn.Linear(d, 3 * d, bias=False)
        self.embedding_norm = RMSNorm(d, 1e-6)
        self.text_in = (
            nn.Linear(config.crossattn_proj_in_channels, config.encoder_hidden_states_channels)
            if config.use_crossattn_projection
            else None
        )
        self.action = None if action_size is None else ActionEmbedding(action_size, d, expansion=4, approximate="tanh")
        self.blocks = nn.ModuleList(CosmosBlock(config) for _ in range(config.num_layers))
        self.modulate_out = AdaLNLoRA(d, config.adaln_lora_dim, 2)
        self.patch_out = nn.Linear(d, config.out_channels * config.patch_values, bias=False)

    def forward(
        self,
        latents: Tensor,
        timestep: Tensor,
        text: Tensor,
        *,
        text_mask: Tensor | None = None,
        fps: float | None = None,
        condition_mask: Tensor | None = None,
        padding_mask: Tensor | None = None,
        action: Tensor | None = None,
    ) -> Tensor:
        """One pass.

        Args:
            latents: (b, c, t, h, w), scaled as the preconditioning has it.
            timestep: (b,), or (b, t) where each latent frame has its own noise level.
            text: (b, s, text), embeddings of a text encoder. text_mask: (b, s) bool, True where there is text.
            fps: frames per second; None where frames are only counted.
            condition_mask: (b, 1, t, h, w), 1 where latents are given; of a model with such a channel.
            padding_mask: (1, 1, H, W), 1 where pixels are padding; None where none are.
            action: (b, a) for all latent frames, or (b, n, a) for each of the last n, those before which take none; of
                a model that takes actions.

        Returns:
            (b, c_out, t, h, w).

        Raises:
            ProcosmError: latents that cannot be cut into patches, or of more or fewer channels.
        """
        size = self._tokens(latents, condition_mask)
        x = self.patch_in(self._patches(latents, condition_mask, padding_mask))
        embedding, shared = self._embedded(timestep, action, x, size[0])
        if self.text_in is not None:
            text = F.gelu(self.text_in(text))
        turn = turns(scaled_angles(size, self.config.attention_head_dim, self.config.rope_scale, fps, x.device))
        x = x.view(len(x), embedding.shape[1], -1, x.shape[-1])  # (b, n, m, d): a group for each noise level
        if self.positions is not None:
            place = self.positions(size).to(x.dtype).view(1, *x.shape[1:])
        for block in self.blocks:
            x = block(x if self.positions is None else x + place.to(x.device), embedding, shared, turn, text, text_mask)
        shift, scale = self.modulate_out(embedding, shared)
        return self._unpatched(self.patch_out(modulated(x, shift, scale)), size)

    def _tokens(self, latents: Tensor, condition_mask: Tensor | None) -> tuple[int, int, int]:
        """How many tokens along time, height and width."""
        config, shape = self.config, tuple(latents.shape)
        given = latents.shape[1] + (condition_mask is not None)
        if given != config.in_channels:
            raise ProcosmError(
                f"latents and masks of {given} channels, where this transformer takes {config.in_channels}"
            )
        if any(n % p for n, p in zip(shape[2:], config.patch_size, strict=True)):
            raise ProcosmError(f"latents of {shape[2:]} cannot be cut into patches of {config.patch_size}")
        t, h, w = (n // p for n, p in zip(shape[2:], config.patch_size, strict=True))
        return t, h, w

    def _patches(self, latents: Tensor, condition_mask: Tensor | None, padding_mask: Tensor | None) -> Tensor:
        """(b, t h w, channels of a patch), masks among the channels."""
        b, _, t, h, w = latents.shape
        parts = [latents] if condition_mask is None else [latents, condition_mask.to(latents.dtype)]
        if self.config.concat_padding_mask:
            if padding_mask is None:
                parts.append(latents.new_zeros(b, 1, t, h, w))
            else:
                near = F.interpolate(padding_mask.to(latents.dtype), (h, w), mode="nearest")
                parts.append(near[:, :, None].expand(b, 1, t, h, w))
        pt, ph, pw = self.config.patch_size
        x = torch.cat(parts, dim=1).unflatten(2, (-1, pt)).unflatten(4, (-1, ph)).unflatten(6, (-1, pw))
        return x.permute(0, 2, 4, 6, 1, 3, 5, 7).flatten(4).flatten(1, 3)  # (b, t, h, w, c, pt, ph, pw) before

    def _embedded(self, timestep: Tensor, action: Tensor | None, x: Tensor, frames: int) -> tuple[Tensor, Tensor]:
        """(b, n, d) and (b, n, 3 d): n is 1, or the latent frames where each has a noise level or an action."""
        features = noise_features(timestep.flatten(), self.config.width).to(x.dtype).view(len(x), -1, self.config.width)
        shared = self.time_out(F.silu(self.time_hidden(features)))
        if action is not None and self.action is not None:
            add_d, add_3d = self.action(action if action.ndim == 3 else action[:, None])
            if action.ndim == 3:
                add_d, add_3d = (F.pad(each, (0, 0, frames - action.shape[1], 0)) for each in (add_d, add_3d))
            features, shared = features + add_d, shared + add_3d
        return self.embedding_norm(features), shared

    def _unpatched(self, x: Tensor, size: tuple[int, int, int]) -> Tensor:
        """(b, n, m, values of a patch) to (b, c, t, h, w); a patch's values have another order than on the way in."""
        pt, ph, pw = self.config.patch_size
        x = x.flatten(1, 2).unflatten(2, (ph, pw, pt, -1)).unflatten(1, size)  # (b, t, h, w, ph, pw, pt, c)
        return x.permute(0, 7, 1, 6, 2, 4, 3, 5).flatten(6, 7).flatten(4, 5).flatten(2, 3)
