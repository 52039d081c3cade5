"""Which token is taken of those that a model holds possible.

A token is a function of its logits and of one number drawn for it: the number decides by inverting the cumulative
distribution. So a dream draws as many numbers a frame whatever else is computed beside it, and a token that was drafted
is right or wrong, never a matter of luck.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from procosm.world_model.interface import Sampling


def draw_uniforms(draws: Sequence[np.random.Generator], count: int, device: torch.device) -> Tensor:
    """(b, count) float64 in [0, 1), each dream's from its own generator."""
    return torch.from_numpy(np.stack([each.random(count) for each in draws])).to(device)


def choose(logits: Tensor, uniforms: Tensor | None, sampling: Sampling) -> Tensor:
    """Tokens (…) of logits (…, v): the most probable, or those that uniforms (…) in [0, 1) mean."""
    if uniforms is None:
        return logits.argmax(-1)
    upto = probabilities(logits, sampling).cumsum(-1)
    # The whole may be a little less than 1: what is drawn is a share of what there is.
    tokens = torch.searchsorted(upto, uniforms[..., None] * upto[..., -1:], right=True)[..., 0]
    return tokens.clamp_max(logits.shape[-1] - 1)


def probabilities(logits: Tensor, sampling: Sampling) -> Tensor:
    """(…, v) float64: softmax at the temperature, of the ``top_k`` most probable that reach ``top_p`` together."""
    logits = logits.double() / sampling.temperature
    if sampling.top_k is not None and sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k, dim=-1).values[..., -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    share = logits.softmax(-1)
    if sampling.top_p < 1:
        ordered, order = share.sort(dim=-1, descending=True, stable=True)
        before = ordered.cumsum(-1) - ordered  # the first that reaches top_p is kept, and so is always one
        kept = torch.zeros_like(share).scatter(-1, order, ordered.masked_fill(before >= sampling.top_p, 0.0))
        share = kept / kept.sum(-1, keepdim=True)
    return share
