"""What the config.json of a published model may hold: its own field names, every one judged, unknown ones refused."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol, TypeVar

from pydantic import Field
from torch import Tensor

from procosm.sparse import strict
from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.files import read_json

Count = Annotated[int, Field(ge=1, le=2**20)]
Scale = Annotated[float, Field(gt=0, le=1000)]
C = TypeVar("C")
RESTORE = "download the folder again, or restore the file from a copy"


@dataclass(frozen=True)
class CosmosTransformerConfig:
    """``CosmosTransformer3DModel`` of diffusers; the defaults are those of the 7B of Predict1, text to world.

    What only the Transfer models have (control branches, image context) is refused by name.
    """

    in_channels: Count = 16
    """Latent channels, one more where a channel says which frames are given."""
    out_channels: Count = 16
    num_attention_heads: Count = 32
    attention_head_dim: Annotated[int, Field(ge=12, le=1024, multiple_of=2)] = 128
    num_layers: Annotated[int, Field(ge=1, le=1024)] = 28
    mlp_ratio: Scale = 4.0
    text_embed_dim: Count = 1024
    adaln_lora_dim: Count = 256
    max_size: tuple[Count, Count, Count] = (128, 240, 240)
    """Latent frames, height and width that there are learnable positions for."""
    patch_size: tuple[Count, Count, Count] = (1, 2, 2)
    rope_scale: tuple[Scale, Scale, Scale] = (2.0, 1.0, 1.0)
    concat_padding_mask: bool = True
    extra_pos_embed_type: Literal["learnable"] | None = "learnable"
    use_crossattn_projection: bool = False
    crossattn_proj_in_channels: Count = 1024
    encoder_hidden_states_channels: Count = 1024
    controlnet_block_every_n: int | None = None
    img_context_dim_in: int | None = None
    img_context_num_tokens: int = 256
    img_context_dim_out: int = 2048

    def __post_init__(self) -> None:
        if self.img_context_dim_in or self.controlnet_block_every_n:
            raise ProcosmError(
                "controlnet_block_every_n and img_context_dim_in are of a Transfer model, which steers a base model "
                "by further videos: give a Predict model"
            )
        if self.use_crossattn_projection and self.encoder_hidden_states_channels != self.text_embed_dim:
            raise ProcosmError(
                f"encoder_hidden_states_channels {self.encoder_hidden_states_channels} is what the text becomes, and "
                f"text_embed_dim {self.text_embed_dim} what the blocks take: they must be equal"
            )

    @property
    def width(self) -> int:
        """Model width d."""
        return self.num_attention_heads * self.attention_head_dim

    @property
    def conditioned(self) -> bool:
        """Whether a channel says which latents are given: video to world, not text to world."""
        return self.in_channels == self.out_channels + 1

    @property
    def patch_values(self) -> int:
        """Places of a patch."""
        return math.prod(self.patch_size)


def read_config(kind: type[C], path: Path, name: str) -> C:
    """A published model's config.json as the dataclass ``kind``; keys that it lacks have the published defaults.

    Args:
        name: the class of diffusers that the file must name.

    Raises:
        CheckpointError: it is missing, damaged, of another class, or has a key or a value that cannot be; by name.
    """
    values = read_json(path, RESTORE)
    found = values.get("_class_name", name) if isinstance(values, dict) else values
    if found != name:
        raise CheckpointError(f"{path} is of a {found!s:.60}, not of {name}: give the folder of a Cosmos model")
    fields: dict[str, Any] = {key: value for key, value in values.items() if not key.startswith("_")}
    try:
        return strict.read(kind, fields)
    except (strict.Wrong, ProcosmError) as fault:
        raise CheckpointError(f"{path}: {fault}; {RESTORE}, or take a version of procosm that knows it") from fault


class Rates(Protocol):
    """How much a video tokenizer compresses."""

    @property
    def frames_per_latent(self) -> int: ...

    @property
    def pixels_per_latent(self) -> int: ...


def check_frames(x: Tensor, rates: Rates) -> None:
    """Refuse (b, 3, t, H, W) frames that no whole number of latents stands for.

    Raises:
        ProcosmError: t is not 1 + k T, or a side is no multiple of a latent's; which would do.
    """
    k, side, (t, h, w) = rates.frames_per_latent, rates.pixels_per_latent, x.shape[2:]
    if (t - 1) % k:
        fewer = t - (t - 1) % k
        raise ProcosmError(
            f"{t} frames: the first is a latent alone, and each further latent stands for {k}, so give 1 + {k} T "
            f"frames, such as {fewer} or {fewer + k}"
        )
    if h % side or w % side:
        raise ProcosmError(f"frames of {h} by {w} pixels: each side must be a multiple of {side}")
