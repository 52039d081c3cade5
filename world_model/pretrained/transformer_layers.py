"""What the published diffusion transformer is made of: norms, attention, blocks.

What the published code computes in float32 whatever the weights are in (mean squares, rotations), these do too.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.world_model.layers import AdaLNLoRA
from procosm.world_model.pretrained.config import CosmosTransformerConfig


class RMSNorm(nn.Module):
    """Root mean square norm over the last axis, the mean square taken in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.eps, self.weight = eps, nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        if x.dtype != torch.float64:  # the fused one accumulates in float32
            # Weights of float32 meet numbers of bfloat16 where training mixes them: the fused one takes one dtype.
            return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)
        return x * torch.rsqrt(x.float().square().mean(-1, keepdim=True) + self.eps) * self.weight


class Attention(nn.Module):
    """Multi-head attention of tokens to themselves or to a text; queries and keys are normalised per head."""

    def __init__(self, width: int, heads: int, other: int) -> None:
        """``other``: width of what is attended to."""
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.k, self.v = nn.Linear(other, width, bias=False), nn.Linear(other, width, bias=False)
        self.norm_q, self.norm_k = RMSNorm(width // heads, 1e-5), RMSNorm(width // heads, 1e-5)
        self.out = nn.Linear(width, width, bias=False)

    def forward(
        self, x: Tensor, other: Tensor, turn: tuple[Tensor, Tensor] | None = None, mask: Tensor | None = None
    ) -> Tensor:
        """(b, tokens, d) and (b, s, other) to (b, tokens, d).

        Args:
            turn: what ``rope.turns`` gives, each (tokens, head_dim). mask: (b, s) bool, True where there is text.
        """
        q, k, v = (
            layer(y).unflatten(-1, (self.heads, -1))
            for layer, y in zip((self.q, self.k, self.v), (x, other, other), strict=True)
        )
        q, k = self.norm_q(q), self.norm_k(k)
        if turn is not None:
            cos, sin = (each[:, None] for each in turn)  # (tokens, 1, head_dim)
            q, k = (_rotated(y, cos, sin) for y in (q, k))
        where = None if mask is None else mask[:, None, None]
        mixed = F.scaled_dot_product_attention(q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), where)
        return self.out(mixed.transpose(1, 2).flatten(2))


def _rotated(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """``rope.rotate`` in float32 of any dtype, each product rounded by itself, as the published code has it."""
    single = x.float()
    return (single * cos + single.roll(x.shape[-1] // 2, -1) * sin).to(x.dtype)


class CosmosBlock(nn.Module):
    """Self-attention, attention to the text, MLP; each modulated before and gated after."""

    def __init__(self, config: CosmosTransformerConfig) -> None:
        super().__init__()
        d, rank, hidden = config.width, config.adaln_lora_dim, int(config.width * config.mlp_ratio)
        self.modulate_self, self.modulate_cross, self.modulate_mlp = (AdaLNLoRA(d, rank, 3) for _ in range(3))
        self.self_attention = Attention(d, config.num_attention_heads, d)
        self.cross_attention = Attention(d, config.num_attention_heads, config.text_embed_dim)
        self.mlp = nn.Sequential(nn.Linear(d, hidden, bias=False), nn.GELU(), nn.Linear(hidden, d, bias=False))

    def forward(
        self,
        x: Tensor,
        embedding: Tensor,
        shared: Tensor,
        turn: tuple[Tensor, Tensor],
        text: Tensor,
        mask: Tensor | None,
    ) -> Tensor:
        """(b, n, m, d), n groups of m tokens, to the same.

        Args:
            embedding, shared: (b, n, d) and (b, n, 3 d), of each group. turn: of all n m tokens. text: (b, s, text).
            mask: (b, s), True where there is text.
        """
        shift, scale, gate = self.modulate_self(embedding, shared)
        y = modulated(x, shift, scale).flatten(1, 2)
        x = torch.addcmul(x, gate, self.self_attention(y, y, turn).view_as(x))
        shift, scale, gate = self.modulate_cross(embedding, shared)
        y = modulated(x, shift, scale).flatten(1, 2)
        x = torch.addcmul(x, gate, self.cross_attention(y, text, mask=mask).view_as(x))
        shift, scale, gate = self.modulate_mlp(embedding, shared)
        return torch.addcmul(x, gate, self.mlp(modulated(x, shift, scale)))


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """Layer norm without weights, then scale and shift."""
    return torch.addcmul(shift, F.layer_norm(x, x.shape[-1:], eps=1e-6), 1 + scale)
