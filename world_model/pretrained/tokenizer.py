"""A published video tokenizer as every dream knows one: uint8 frames to standardised latents and back."""

from dataclasses import dataclass, field
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from procosm.world_model.errors import ProcosmError
from procosm.world_model.interface import LatentSpec
from procosm.world_model.precision import float32_convolutions
from procosm.world_model.pretrained.cosmos_vae import CosmosVAE, CosmosVAEConfig
from procosm.world_model.pretrained.wan_vae import WanVAE, WanVAEConfig

Side = Annotated[int, Field(ge=8, le=8192)]


@dataclass(frozen=True)
class PretrainedTokenizerConfig:
    """A published tokenizer, and the frames that it is used for."""

    vae: CosmosVAEConfig | WanVAEConfig = field(default_factory=WanVAEConfig)
    height: Side = 256
    width: Side = 320
    image: bool = False
    """Each frame is coded alone, as the first of a video is: one latent for each."""

    def __post_init__(self) -> None:
        side = self.vae.pixels_per_latent
        if self.height % side or self.width % side:
            raise ProcosmError(
                f"frames of {self.height} by {self.width} pixels for a tokenizer of {side} pixels a latent: "
                "each side must be a multiple"
            )


class PretrainedTokenizer(nn.Module):
    """Satisfies :class:`procosm.world_model.interface.Tokenizer`."""

    mean: Tensor
    std: Tensor

    def __init__(self, config: PretrainedTokenizerConfig, weights: CosmosVAE | WanVAE | None = None) -> None:
        """``weights``: the VAE of this config, if it is there already."""
        super().__init__()
        self.config, self.mixed, vae = config, False, config.vae
        self.vae = weights or (CosmosVAE(vae) if isinstance(vae, CosmosVAEConfig) else WanVAE(vae))
        channels = vae.latent_channels if isinstance(vae, CosmosVAEConfig) else vae.z_dim
        self.spec = LatentSpec(
            (channels, config.height // vae.pixels_per_latent, config.width // vae.pixels_per_latent),
            1 if config.image else vae.frames_per_latent,
        )
        for name, values, default in (("mean", vae.latents_mean, 0.0), ("std", vae.latents_std, 1.0)):
            numbers = torch.tensor([default] * channels if values is None else values).view(channels, -1)
            self.register_buffer(name, numbers.T[..., None, None].contiguous(), persistent=False)  # (t or 1, c, 1, 1)

    def statistics(self, frames: int) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the first ``frames`` latents, each (t or 1, c, 1, 1).

        Raises:
            ProcosmError: the published statistics are of fewer.
        """
        known = len(self.mean)
        if known == 1 or self.config.image:
            return self.mean[:1], self.std[:1]
        if frames > known:
            raise ProcosmError(f"{frames} latents, where the published statistics are of the first {known}")
        return self.mean[:frames], self.std[:frames]

    @torch.no_grad()
    def encode(self, frames: Tensor) -> Tensor:
        """uint8 (b, t, h, w, 3) to standardised latents (b, t', c, h', w').

        Raises:
            ProcosmError: frames of another size, or a number of them that no whole number of latents stands for.
        """
        if frames.shape[2:] != (self.config.height, self.config.width, 3):
            raise ProcosmError(
                f"frames of shape {tuple(frames.shape)}, where this tokenizer is set to (b, t, {self.config.height}, "
                f"{self.config.width}, 3)"
            )
        return self.to_latents(frames.permute(0, 4, 1, 2, 3).float() / 127.5 - 1)

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Standardised latents (b, t', c, h', w') to uint8 (b, t, h, w, 3)."""
        return self.to_frames(self.to_pixels(latents))

    def to_latents(self, x: Tensor) -> Tensor:
        """(b, 3, t, h, w) in [-1, 1] to standardised latents (b, t', c, h', w')."""
        with float32_convolutions():
            z = self.vae.encode(self._alone(x.to(next(self.vae.parameters()).dtype)))
        z = self._together(z, len(x)).transpose(1, 2)
        mean, std = self.statistics(z.shape[1])
        return (z.to(mean.dtype) - mean) / std

    def to_pixels(self, latents: Tensor) -> Tensor:
        """Standardised latents (b, t', c, h', w') to (b, 3, t, h, w) within [-1, 1].

        Raises:
            ProcosmError: pixels that are not finite numbers.
        """
        mean, std = self.statistics(latents.shape[1])
        z = (latents * std + mean).transpose(1, 2).to(next(self.vae.parameters()).dtype)
        with torch.autocast(z.device.type, torch.bfloat16, enabled=self.mixed), float32_convolutions():
            x = self._together(self.vae.decode(self._alone(z)), len(z)).to(mean.dtype)
        if not bool(torch.isfinite(x).all()):
            raise ProcosmError(
                "latents were decoded to pixels that are no finite numbers: the dream has run away or the weights are "
                "damaged. Begin another, or open another checkpoint"
            )
        return x.clamp(-1, 1)

    @staticmethod
    def to_frames(x: Tensor) -> Tensor:
        """(b, 3, t, h, w) in [-1, 1] to uint8 (b, t, h, w, 3)."""
        return ((x + 1) * 127.5).round().to(torch.uint8).permute(0, 2, 3, 4, 1)

    def _alone(self, x: Tensor) -> Tensor:
        """(b, c, t, h, w) to (b t, c, 1, h, w) where frames are coded alone."""
        return x.transpose(1, 2).flatten(0, 1)[:, :, None] if self.config.image else x

    def _together(self, x: Tensor, batch: int) -> Tensor:
        """The inverse of :meth:`_alone`."""
        return x[:, :, 0].unflatten(0, (batch, -1)).transpose(1, 2) if self.config.image else x
