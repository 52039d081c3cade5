"""Two more forms in which a network can be told of actions, beside the timestep embedding (``actions``).

The three of Cosmos-Predict2's ablation (arXiv 2511.00062, table 20): additions to the timestep embedding, which is what
ships; cross-attention of every block to tokens of what was done; channels of the input, the same at every place. Here
channels are what their columns of the first layer would add to each token. All three add nothing before they are
trained, where they are added to a model.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from procosm.world_model.conditioning.text import TextAttention

Injection = Literal["timestep", "cross-attention", "channels"]
"""In which form a network is told of actions."""


class ActionChannels(nn.Module):
    """What is told of actions as channels of every patch: their columns of the first layer."""

    def __init__(self, told: int, width: int) -> None:
        super().__init__()
        self.channels_in = nn.Linear(told, width)
        self.silence()

    @torch.no_grad()
    def silence(self) -> None:
        """Add nothing until it is trained."""
        self.channels_in.weight.zero_()
        self.channels_in.bias.zero_()

    def forward(self, tokens: Tensor, action: Tensor) -> Tensor:
        """(b, n, d) tokens and (b, told) to (b, n, d)."""
        return tokens + self.channels_in(action)[:, None]


class ActionAttention(nn.Module):
    """Tokens of what was done, one for each past latent, and the cross-attention of each block to them."""

    def __init__(self, told: int, tokens: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.tokens_in = nn.Linear(told, tokens * width)
        self.attention = nn.ModuleList(TextAttention(width, heads, width) for _ in range(layers))

    @torch.no_grad()
    def silence(self) -> None:
        """Add nothing until it is trained."""
        for attention in self.attention:
            assert isinstance(attention, TextAttention)
            attention.silence()

    def tell(self, action: Tensor) -> Tensor:
        """(b, told) to (b, tokens, d)."""
        return self.tokens_in(action).unflatten(1, (self.tokens, -1))

    def attend(self, layer: int, tokens: Tensor, told: Tensor) -> Tensor:
        """The cross-attention of block ``layer``: (b, n, d) to the same, given what ``tell`` made."""
        return self.attention[layer](tokens, told)
