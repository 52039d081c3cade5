"""The tokens of a frame, several a pass: Medusa heads draft, the model decides (Cosmos §5.2, arXiv 2401.10774).

The heads guess the tokens that follow the next one, and are told what stood there in the frame before; at a frame's
beginning that is itself the guess. One pass over them gives the model's own choice behind each; drafts are taken as far
as they are that choice, with one more that comes for nothing. So every token is the one that would have been taken
without heads, sampled ones too. Without trees: one draft, as in Cosmos.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from procosm.world_model.autoregressive.cache import Cache
from procosm.world_model.autoregressive.sampling import choose
from procosm.world_model.autoregressive.transformer import AutoregressiveTransformer
from procosm.world_model.interface import MEAN, Sampling

DRAFTS = 12
"""With more drafts in a pass a CPU loses by computing them what it gains by passes (benchmarks/dream/medusa)."""


@dataclass(frozen=True)
class Frame:
    """What was generated.

    Attributes:
        tokens: (b, n). passes: of the transformer, until the last dream of the batch was done.
    """

    tokens: Tensor
    passes: int


def heads_that_pay(net: AutoregressiveTransformer, batch: int, device: torch.device) -> int:
    """How many heads draft for a batch: all, but on a CPU no more than make ``DRAFTS`` drafts together."""
    return net.config.medusa_heads if device.type != "cpu" else min(net.config.medusa_heads, DRAFTS // batch)


def generate(
    net: AutoregressiveTransformer,
    cache: Cache,
    before: Tensor,
    uniforms: Tensor | None = None,
    sampling: Sampling = MEAN,
    heads: int | None = None,
) -> Frame:
    """The next frame of every dream; its tokens but the last are in the cache afterwards.

    Args:
        cache: where all tokens but the newest are, and what is done before the frame.
        before: (b, n), the tokens of the frame before, the newest last.
        uniforms: (b, n), see ``sampling``; None takes the most probable.
        heads: how many draft; None for as many as pay.
    """
    (batch, n), device = before.shape, before.device
    heads = heads_that_pay(net, batch, device) if heads is None else heads
    tokens = before.new_zeros(batch, n + 2 + heads)  # drafts may reach beyond the frame
    tokens[:, 0] = before[:, -1]  # index i + 1 is place i of the frame
    start, done = cache.lengths.clone(), before.new_zeros(batch)
    drafts, passes = before[:, :heads], 0
    rows = torch.arange(batch, device=device)[:, None]
    every = torch.arange(net.config.medusa_heads, device=device)

    def drawn(first: Tensor, count: int) -> Tensor | None:
        """The numbers of ``count`` places from ``first`` (b,) on."""
        if uniforms is None:
            return None
        return uniforms[rows, (first[:, None] + torch.arange(count, device=first.device)).clamp_max(n - 1)]

    while (left := n - int(done.min())) > 0:
        drafts = drafts[:, : left - 1]
        width = 1 + drafts.shape[1]
        ahead = torch.arange(width, device=device)
        inputs = torch.cat([tokens.gather(1, done[:, None]), drafts], dim=1)
        hidden = net.advance(cache, inputs, (start + done)[:, None] + ahead)
        chosen = choose(net.logits(hidden), drawn(done, width), sampling)
        right = (drafts == chosen[:, :-1]).long().cumprod(1).sum(1)
        taken = torch.minimum(right + 1, n - done)  # (b,); 0 in a dream that is done
        at = done[:, None] + 1 + ahead
        tokens.scatter_(1, at, torch.where(ahead < taken[:, None], chosen, tokens.gather(1, at)))
        done, passes = done + taken, passes + 1
        if heads:
            last = hidden[rows[:, 0], (taken - 1).clamp_min(0)]
            there = before.gather(1, (done[:, None] + every).clamp_max(n - 1))
            drafts = choose(net.drafts(last, there)[:, :heads], drawn(done, heads), sampling)
    cache.lengths.add_(n)
    return Frame(tokens[:, 1 : n + 1], passes)
