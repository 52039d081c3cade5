"""Several cameras of one moment: view embedding and view-dependent cross-attention (Cosmos §6.3, arXiv 2501.03575).

Views stand side by side in a frame, all of one width, and so do their tokens. Self-attention sees all of them at once,
which is what holds views together. Here each view becomes one of its own: positions begin anew in each, so that a place
is the same place in all; an embedding says which view a token is of; and each block has cross-attention in which a
token sees only what is told to its view. Cosmos tells each view a caption. Nobody captions robots' logs, so that what
is told to a view here is what was done, by weights of its own: the same action moves things another way in each view.
"""

from dataclasses import dataclass
from typing import Annotated, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from procosm.world_model.conditioning.text import TextAttention
from procosm.world_model.errors import ProcosmError
from procosm.world_model.rope import angles


@dataclass(frozen=True)
class ViewsConfig:
    """How the views of a frame are told apart."""

    count: Annotated[int, Field(ge=1, le=16)] = 1
    """Views side by side; the task's own number is put in when a model is built."""
    tokens: Annotated[int, Field(ge=1, le=64)] = 4
    """What is told to each view, in tokens."""


def width_of_each(grid: tuple[int, int], count: int) -> int:
    """Tokens across each view of (down, across) tokens.

    Raises:
        ProcosmError: a token would be of two views.
    """
    if grid[1] % count:
        raise ProcosmError(
            f"{count} views are {grid[1]} tokens wide together, and a token must be of one view: give --frame-size a "
            "multiple of the pixels of a token, the same for each view"
        )
    return grid[1] // count


def view_angles(grid: tuple[int, int], count: int, head_dim: int) -> Tensor:
    """(tokens, head_dim / 2) rotary angles, rows first; columns are counted from the left of each view."""
    each = width_of_each(grid, count)
    one = angles(1, grid[0], each, head_dim).unflatten(0, (grid[0], 1, each))
    return one.expand(-1, count, -1, -1).flatten(0, 2)


class ViewConditioning(nn.Module):
    """Everything that tells views apart in a network; it changes nothing but positions until it is trained."""

    def __init__(
        self, config: ViewsConfig, width: int, heads: int, layers: int, told: int, grid: tuple[int, int]
    ) -> None:
        """``told``: numbers that a network is told of actions. ``grid``: its tokens down and across."""
        super().__init__()
        self.config, self.height, self.each = config, grid[0], width_of_each(grid, config.count)
        self.embedding = nn.Linear(config.count, width, bias=False)  # a column for each view
        self.told = nn.Linear(told, config.count * config.tokens * width)
        self.attention = nn.ModuleList(TextAttention(width, heads, width) for _ in range(layers))
        self.silence()

    @torch.no_grad()
    def silence(self) -> None:
        """Add nothing until it is trained."""
        self.embedding.weight.zero_()
        for attention in self.attention:
            cast(TextAttention, attention).silence()

    def embed(self, tokens: Tensor) -> Tensor:
        """(b, tokens, d) to the same, each token with the embedding of its view."""
        row = self.embedding.weight.T.repeat_interleave(self.each, dim=0)  # (across, d)
        return tokens + row.repeat(self.height, 1)

    def tell(self, action: Tensor) -> Tensor:
        """(b, told) to (b views, l, d): what each view is told."""
        return self.told(action).unflatten(1, (self.config.count, self.config.tokens, -1)).flatten(0, 1)

    def attend(self, layer: int, tokens: Tensor, told: Tensor) -> Tensor:
        """The cross-attention of block ``layer``: (b, tokens, d) to the same, given what ``tell`` made."""
        count, each = self.config.count, self.each
        apart = tokens.unflatten(1, (self.height, count, each)).transpose(1, 2)  # (b, view, down, across, d)
        seen = self.attention[layer](apart.flatten(2, 3).flatten(0, 1), told)
        return seen.unflatten(0, (-1, count)).unflatten(2, (self.height, each)).transpose(1, 2).flatten(1, 3)
