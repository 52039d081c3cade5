"""What the transformer is trained on: the next token of real videos, and with Medusa heads those after it."""

import torch
from torch import Tensor

from procosm.world_model.autoregressive.transformer import AutoregressiveTransformer
from procosm.world_model.precision import sent

DECAY = 0.8
"""Weight of each Medusa head over that of the one before (Medusa, arXiv 2401.10774, §2.2)."""
STRIDE = 4
"""Heads are trained on one token in so many: each costs as much as the last layer."""


def token_losses(logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy, and the square of the logarithm of the normaliser (z-loss), each (…), of (…, v) and (…)."""
    logits = logits.float() if logits.dtype == torch.bfloat16 else logits
    normaliser = logits.logsumexp(-1)
    return normaliser - logits.gather(-1, targets[..., None])[..., 0], normaliser.square()


def video_loss(
    net: AutoregressiveTransformer,
    tokens: Tensor,
    actions: Tensor,
    mask: Tensor,
    z_weight: float,
    medusa_weight: float,
    generator: torch.Generator,
) -> tuple[Tensor, dict[str, Tensor]]:
    """``loss, metrics`` of every frame of a video but the first; a frame that does not count has no error.

    Args:
        tokens: (b, t, n). actions: (b, t, a) in [-1, 1], what is done before each frame; NaN where nobody knows.
        mask: (b, t), 1 where the frame counts.
        z_weight: of the z-loss, which keeps logits from growing (Cosmos §5.2: 3e-4).
        medusa_weight: of the first Medusa head against the model itself.
        generator: of the tokens that heads are trained on.
    """
    n = tokens.shape[2]
    flat = tokens.flatten(1)
    hidden = net(flat, actions)[:, n - 1 : -1]  # (b, (t - 1) n, d); index i predicts token n + i
    targets = flat[:, n:]
    weight = mask[:, 1:].repeat_interleave(n, 1) / targets.numel()
    logits = net.logits(hidden)
    entropy, square = token_losses(logits, targets)
    nll = (entropy * weight).sum()
    loss = nll + z_weight * (square * weight).sum()
    with torch.no_grad():
        right = ((logits.argmax(-1) == targets) * weight).sum() / weight.sum()
        metrics = {"nll": nll.detach(), "right": right}
    if net.config.medusa_heads and medusa_weight:
        offset = torch.randint(STRIDE, (1,), generator=generator)
        drafted, right = _draft_loss(net, hidden, flat, weight, offset)
        loss = loss + medusa_weight * drafted
        metrics |= {"drafts_right": right}
    return loss, metrics | {"loss": loss.detach()}


def _draft_loss(
    net: AutoregressiveTransformer, hidden: Tensor, tokens: Tensor, weight: Tensor, offset: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the heads on every ``STRIDE``-th token, and how often they are right.

    Head i, from 0 up, drafts the token i + 1 places after the next one, and only within its frame.
    """
    n, heads = net.frame_tokens, net.config.medusa_heads
    targets = tokens[:, n:]
    count = -(-targets.shape[1] // STRIDE)
    at = sent(offset, targets.device) + STRIDE * torch.arange(count, device=targets.device)
    ahead = at[:, None] + 1 + torch.arange(heads, device=targets.device)  # (tokens, heads)
    there = (ahead // n == at[:, None] // n) & (ahead < targets.shape[1])
    at = at.clamp_max(targets.shape[1] - 1)  # of a token beyond the end nothing is there
    ahead = ahead.clamp_max(targets.shape[1] - 1)
    wanted, before = targets[:, ahead], tokens[:, ahead]  # the same place, a frame earlier
    logits = net.drafts(hidden[:, at], before)
    counted = weight[:, at, None] * there
    decay = DECAY ** torch.arange(heads, device=weight.device, dtype=weight.dtype)
    loss = (token_losses(logits, wanted)[0] * counted * decay).sum() * STRIDE
    with torch.no_grad():
        right = ((logits.argmax(-1) == wanted) * counted).sum() / counted.sum().clamp_min(1e-9)
    return loss, right
