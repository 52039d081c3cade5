"""The denoising network: a diffusion transformer over latent patches (Cosmos §5.1, arXiv 2501.03575)."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, NamedTuple, cast

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from procosm.world_model.conditioning.actions import ActionEmbedding
from procosm.world_model.conditioning.injection import ActionAttention, ActionChannels, Injection
from procosm.world_model.conditioning.rays import CameraConfig, RayEmbedding
from procosm.world_model.conditioning.text import TextAttention
from procosm.world_model.conditioning.views import ViewConditioning, ViewsConfig, view_angles
from procosm.world_model.errors import ProcosmError
from procosm.world_model.layers import AdaLNLoRA, Block, fourier_features
from procosm.world_model.rope import turns


@dataclass(frozen=True)
class TransformerConfig:
    """Size of a diffusion transformer."""

    width: Annotated[int, Field(ge=2, le=8192)] = 128
    """Model width d; an even multiple of heads, whose channels turn in pairs."""
    layers: Annotated[int, Field(ge=1, le=128)] = 4
    """Blocks."""
    heads: Annotated[int, Field(ge=1, le=256)] = 4
    """Attention heads."""
    mlp_ratio: Annotated[int, Field(ge=1, le=16)] = 4
    """Hidden width of the MLPs over d."""
    adaln_rank: Annotated[int, Field(ge=1, le=4096)] = 32
    """Rank of the AdaLN-LoRA projections."""
    patch: Annotated[int, Field(ge=1, le=64)] = 2
    """Latents along each side of a token."""

    def __post_init__(self) -> None:
        if self.width % (2 * self.heads):
            raise ProcosmError(f"width {self.width} is no even multiple of {self.heads} heads")


class Told(NamedTuple):
    """What blocks attend to beside the frames, None each where there is nothing.

    Attributes:
        text: (b, l, e). views: (b views, l, d), what is told to each view. actions: (b, l, d).
    """

    text: Tensor | None
    views: Tensor | None
    actions: Tensor | None


class DiffusionTransformer(nn.Module):
    """F(c_in x; c_noise, context, action): the raw network inside the preconditioning."""

    cos: Tensor
    sin: Tensor

    def __init__(
        self,
        config: TransformerConfig,
        latent_shape: tuple[int, int, int],
        context: int,
        action_size: int,
        text_size: int | None = None,
        camera: CameraConfig | None = None,
        views: ViewsConfig | None = None,
        masked: bool = False,
        injection: Injection = "timestep",
    ) -> None:
        """``text_size``: numbers of a text's tokens; None takes no text. ``camera``: what actions move, if any.
        ``views``: how those of a frame are told apart; None sees it as one picture. ``masked``: whether it is told
        which latents of the context are shown. ``injection``: in which form it is told of actions.
        """
        super().__init__()
        c, h, w = latent_shape
        self.config, p, d = config, config.patch, config.width
        self.action_size, heads, layers = action_size, config.heads, config.layers
        if h % p or w % p:
            raise ProcosmError(f"latents of {h} by {w} cannot be cut into patches of {p}: the patch must divide them")
        self.grid = (h // p, w // p)
        self.masks = context if masked else 0
        self.patch_in = nn.Linear((1 + context) * c * p * p + self.masks, d, bias=False)
        self.time_hidden, self.time_out = nn.Linear(d, d, bias=False), nn.Linear(d, 3 * d, bias=False)
        self.embedding_norm = nn.RMSNorm(d, eps=1e-6)
        self.action = ActionEmbedding(action_size, d) if injection == "timestep" else None
        self.action_channels = ActionChannels(action_size, d) if injection == "channels" else None
        attended = injection == "cross-attention"
        self.action_attention = ActionAttention(action_size, context, d, heads, layers) if attended else None
        self.blocks = nn.ModuleList(
            Block(d, config.heads, config.adaln_rank, config.mlp_ratio) for _ in range(config.layers)
        )
        each = () if text_size is None else [text_size] * config.layers
        self.text = nn.ModuleList(TextAttention(d, config.heads, size) for size in each)
        self.rays = None if camera is None else RayEmbedding(camera, d, p, self.grid)
        self.views = None if views is None else ViewConditioning(views, d, heads, layers, action_size, self.grid)
        self.norm = nn.LayerNorm(d, elementwise_affine=False, eps=1e-6)
        self.modulate_out = AdaLNLoRA(d, config.adaln_rank, 2)
        self.patch_out = nn.Linear(d, c * p * p, bias=False)
        nn.init.zeros_(self.patch_out.weight)
        with torch.device("cpu"):  # on meta arithmetic imports torch's compiler, longer than a checkpoint takes to open
            cos, sin = turns(view_angles(self.grid, 1 if views is None else views.count, d // heads))
        dtype = torch.promote_types(self.patch_in.weight.dtype, cos.dtype)
        self.register_buffer("cos", cos.to(torch.get_default_device(), dtype), persistent=False)
        self.register_buffer("sin", sin.to(torch.get_default_device(), dtype), persistent=False)

    def forward(
        self,
        x: Tensor,
        c_noise: Tensor,
        context: Tensor,
        action: Tensor,
        text: Tensor | None = None,
        motion: Tensor | None = None,
        shown: Tensor | None = None,
    ) -> Tensor:
        """One pass.

        Args:
            x: (b, 1, c, h, w), the noisy latent times c_in. c_noise: (b,).
            context: (b, context, c, h, w), the clean past, joined on channels.
            action: (b, a), what the network is told of actions; values in [-1, 1].
            text: (b, l, e), what it is told in words; None, as zeros, tells nothing.
            motion: (b, 6), of the camera in the step, where actions move one.
            shown: (b, context), 1 where a latent is shown; None for all.

        Returns:
            (b, 1, c, h, w).
        """
        tokens = self.patch_in(self.inputs(torch.cat([x, context], dim=1), shown))
        tokens, told = self.conditioned(tokens, action, text, motion)
        features = fourier_features(c_noise, self.config.width)
        add_d, add_3d = self.embedded(action)
        shared = self.time_out(F.silu(self.time_hidden(features))) + add_3d
        embedding = self.embedding_norm(features + add_d)
        return self.run(tokens, [modulate(embedding, shared) for modulate in self.modulations()], told)

    def conditioned(
        self, tokens: Tensor, action: Tensor, text: Tensor | None, motion: Tensor | None
    ) -> tuple[Tensor, Told]:
        """Tokens (b, n, d) with all that is added to them, and what blocks attend to, of the conditions there are."""
        if self.rays is not None:
            tokens = tokens + self.rays(motion)
        if self.action_channels is not None:
            tokens = self.action_channels(tokens, action)
        acted = None if self.action_attention is None else self.action_attention.tell(action)
        if self.views is None:
            return tokens, Told(text, None, acted)
        return self.views.embed(tokens), Told(text, self.views.tell(action), acted)

    def embedded(self, action: Tensor) -> tuple[Tensor, Tensor] | tuple[float, float]:
        """What actions add to the timestep embedding (d), and to the AdaLN-LoRA branch (3 d); 0 in other forms."""
        return (0.0, 0.0) if self.action is None else self.action(action)

    def inputs(self, latents: Tensor, shown: Tensor | None = None) -> Tensor:
        """(b, t, c, h, w) latents as patches, (b, tokens, t c p p), with the mask of those shown where it is told."""
        patches = self.patchify(latents.flatten(1, 2))
        if not self.masks:
            return patches
        mask = patches.new_ones(1, self.masks) if shown is None else shown.to(patches.dtype)
        return torch.cat([patches, mask[:, None].expand(*patches.shape[:2], -1)], dim=2)

    def modulations(self) -> list[AdaLNLoRA]:
        """Of each block's attention and MLP, then of the last layer: the order of :meth:`run`."""
        blocks = cast(Iterable[Block], self.blocks)  # to torch, a list of modules of any kind
        pairs = ((block.modulate_attention, block.modulate_mlp) for block in blocks)
        return [*(modulate for pair in pairs for modulate in pair), self.modulate_out]

    def run(self, tokens: Tensor, parts: list[tuple[Tensor, ...]], told: Told) -> Tensor:
        """Blocks and last layer, (b, tokens, d) to (b, 1, c, h, w), given what ``modulations`` make and is told."""
        for i, (block, attention, mlp) in enumerate(zip(self.blocks, parts[:-1:2], parts[1:-1:2], strict=True)):
            if self.text and told.text is not None:
                tokens = self.text[i](tokens, told.text)
            if self.action_attention is not None and told.actions is not None:
                tokens = self.action_attention.attend(i, tokens, told.actions)
            if self.views is not None and told.views is not None:
                tokens = self.views.attend(i, tokens, told.views)
            tokens = block(tokens, attention, mlp, self.cos, self.sin)
        shift, scale = parts[-1]
        return self.unpatchify(self.patch_out(torch.addcmul(shift, self.norm(tokens), 1 + scale)))[:, None]

    def patchify(self, x: Tensor) -> Tensor:
        """(b, c, h, w) to (b, tokens, c p p)."""
        p = self.config.patch
        return x.unflatten(2, (-1, p)).unflatten(4, (-1, p)).permute(0, 2, 4, 1, 3, 5).flatten(3).flatten(1, 2)

    def unpatchify(self, tokens: Tensor) -> Tensor:
        """(b, tokens, c p p) to (b, c, h, w)."""
        p = self.config.patch
        x = tokens.unflatten(1, self.grid).unflatten(3, (-1, p, p))  # (b, h/p, w/p, c, p, p)
        return x.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def example() -> tuple[DiffusionTransformer, tuple[Tensor, ...]]:
    """The default network, told what dynamics of six actions are, and inputs of one latent, for tools that trace it."""
    context, told, latent_shape = 3, 3 * 6 + 2, (4, 8, 8)
    model = DiffusionTransformer(TransformerConfig(), latent_shape, context, told)
    x = torch.zeros(1, 1 + context, *latent_shape)
    return model, (x[:, :1], torch.zeros(1), x[:, 1:], torch.zeros(1, told))
