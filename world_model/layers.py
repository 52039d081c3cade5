"""Blocks shared by the transformers."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.world_model.attention import attend_in_parts, parts_pay
from procosm.world_model.rope import rotate

EPS = 1e-6
"""Of the RMS norms of queries and keys."""


class AdaLNLoRA(nn.Module):
    """Shift, scale and gate from the timestep embedding, at low rank (Cosmos §5.1: 36 % fewer parameters at parity).

    The embedding passes SiLU, a down-projection and an up-projection; the branch all blocks share is added.
    """

    def __init__(self, width: int, rank: int, parts: int) -> None:
        super().__init__()
        self.parts = parts
        self.down, self.up = nn.Linear(width, rank, bias=False), nn.Linear(rank, parts * width, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, embedding: Tensor, shared: Tensor) -> tuple[Tensor, ...]:
        """(b, d) and (b, 3 d) to ``parts`` tensors (b, 1, d); also of several embeddings, (b, n, d) to (b, n, 1, d)."""
        out = self.up(self.down(F.silu(embedding)))
        return (out + shared[..., : out.shape[-1]]).unsqueeze(-2).chunk(self.parts, dim=-1)


class SelfAttention(nn.Module):
    """Multi-head attention with RMS-normalised queries and keys and rotary positions.

    On a CUDA device by the fused kernel. On the CPU written out: for the 4 to 64 tokens of a small latent, the fused
    kernel's backward pass there takes most of a training step (2.5 times as long as this). Samples of fewer than 16
    tokens share their products, a mask between them: many products of 4 by 4 cost twice as much as a quarter as many of
    16 by 16. A large batch is trained some samples at a time, see ``attention``.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.norm_q, self.norm_k = nn.RMSNorm(width // heads, eps=EPS), nn.RMSNorm(width // heads, eps=EPS)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(b, tokens, d) to the same; ``cos`` and ``sin`` are (tokens, head_dim), see ``rope.turns``."""
        batch, tokens = x.shape[:2]
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (b, tokens, 3, k, head_dim)
        gain = torch.stack([self.norm_q.weight, self.norm_k.weight])  # both are normalised in one pass
        together = math.gcd(batch, max(1, 16 // tokens))
        if together == 1 and parts_pay(qkv):
            return self.out(attend_in_parts(qkv, gain, cos, sin, EPS).reshape(x.shape))
        gain = gain[:, None]
        qk = F.rms_norm(qkv[:, :, :2].to(gain.dtype), gain.shape[-1:], eps=EPS) * gain
        qk = rotate(qk, cos[:, None, None], sin[:, None, None])
        if x.is_cuda:
            q, k, v = (t.transpose(1, 2) for t in (qk[:, :, 0].to(qkv.dtype), qk[:, :, 1].to(qkv.dtype), qkv[:, :, 2]))
            mixed = F.scaled_dot_product_attention(q, k, v)
            return self.out(mixed.transpose(1, 2).reshape(x.shape))
        q, k = _joined(qk, together).permute(2, 0, 3, 1, 4)  # each (b / together, k, together tokens, head_dim)
        v = _joined(qkv[:, :, 2], together).transpose(1, 2)
        scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5
        if together > 1:
            sample = torch.arange(together * tokens, device=x.device) // tokens
            scores = scores.masked_fill(sample[:, None] != sample, -torch.inf)
        mixed = scores.softmax(dim=-1).to(v.dtype) @ v
        return self.out(mixed.transpose(1, 2).reshape(x.shape))


def _joined(x: Tensor, together: int) -> Tensor:
    """(b, tokens, …) to (b / together, together tokens, …)."""
    return x if together == 1 else x.unflatten(0, (-1, together)).flatten(1, 2)


class Block(nn.Module):
    """Attention and MLP, each modulated before and gated after (adaptive layer norm)."""

    def __init__(self, width: int, heads: int, rank: int, mlp_ratio: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulate_attention, self.modulate_mlp = AdaLNLoRA(width, rank, 3), AdaLNLoRA(width, rank, 3)
        self.attention = SelfAttention(width, heads)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_ratio * width, bias=False), nn.GELU(), nn.Linear(mlp_ratio * width, width, bias=False)
        )

    def forward(
        self, x: Tensor, attention: tuple[Tensor, ...], mlp: tuple[Tensor, ...], cos: Tensor, sin: Tensor
    ) -> Tensor:
        """(b, tokens, d) to the same.

        Args:
            attention, mlp: (shift, scale, gate), each (b, 1, d), of ``modulate_attention`` and ``modulate_mlp``.
            cos, sin: (tokens, head_dim), see ``rope.turns``.
        """
        shift, scale, gate = attention
        x = torch.addcmul(x, gate, self.attention(torch.addcmul(shift, self.norm(x), 1 + scale), cos, sin))
        shift, scale, gate = mlp
        return torch.addcmul(x, gate, self.mlp(torch.addcmul(shift, self.norm(x), 1 + scale)))


def fourier_features(x: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """(b,) to (b, width): cosines and sines at geometric frequencies."""
    frequency = max_period ** (-torch.arange(width // 2, device=x.device, dtype=torch.float32) / (width // 2))
    phase = x[:, None] * frequency.to(x.dtype) * 1000.0
    return torch.cat([phase.cos(), phase.sin()], dim=-1)
