"""How many frames of its past a dynamics is shown: all of its context, fewer, or none (Cosmos §5.1, arXiv 2501.03575).

As Video2World's conditional frames, they come with a mask that says which there are; what is not shown looks like the
oldest frame that is, so that nothing moves among it. A window of which nothing is shown is a picture by itself: learned
beside windows of video, as Cosmos does with images, it is what a dream from words alone, or from nothing, begins with.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from procosm.world_model.errors import ProcosmError


@dataclass(frozen=True)
class ShownConfig:
    """In what part of the windows that are trained on not the whole context is shown."""

    fewer: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part in which 1 to context - 1 frames are shown, each number as often."""
    images: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Part that is a picture by itself, of which nothing is shown."""

    def __post_init__(self) -> None:
        if not 0 < self.fewer + self.images < 1:
            raise ProcosmError(
                f"{self.fewer:g} of the windows with fewer frames and {self.images:g} with none: their sum must lie "
                "between 0 and 1"
            )


def shown_counts(windows: int, context: int, fewer: float, images: float) -> Tensor:
    """(windows,) int64, how many frames of each window's context are shown; a function of its arguments alone."""
    row = torch.arange(windows, dtype=torch.float64)
    chosen = [((row + 1) * share).floor() > (row * share).floor() for share in (fewer, images)]
    counts = torch.full((windows,), context)
    counts[chosen[0]] = 1 + torch.arange(int(chosen[0].sum())) % (context - 1)
    counts[chosen[1].flip(0)] = 0
    return counts


def mask_of(counts: Tensor, context: int) -> Tensor:
    """(b,) counts to (b, context), 1 where a frame is shown."""
    place = torch.arange(context, device=counts.device)
    return (place >= context - counts[:, None]).float()


def with_oldest_hidden(latents: Tensor, counts: Tensor) -> Tensor:
    """(b, context, c, h, w), before the newest ``counts`` (b,) of which the oldest of these stands; of none, zeros."""
    context, device = latents.shape[1], latents.device
    place, row = (torch.arange(size, device=device) for size in (context, len(latents)))
    oldest = (context - counts).clamp_max(context - 1)
    hidden = latents[row[:, None], torch.maximum(place, oldest[:, None])]
    return hidden * (counts > 0).view(-1, 1, 1, 1, 1)


def with_hidden_unknown(actions: Tensor, counts: Tensor, context: int) -> Tensor:
    """(b, t, a) actions from the oldest latent of the context on, NaN where the latent is not shown that they left."""
    place = torch.arange(actions.shape[1], device=actions.device)
    return actions.masked_fill((place < context - counts[:, None])[..., None], torch.nan)
