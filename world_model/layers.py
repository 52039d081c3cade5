"""Blocks shared by the transformers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.world_model.rope import rotate


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
        """(b, d) and (b, 3 d) to ``parts`` tensors (b, 1, d)."""
        out = self.up(self.down(F.silu(embedding)))
        return (out + shared[:, : out.shape[1]])[:, None].chunk(self.parts, dim=-1)


class SelfAttention(nn.Module):
    """Multi-head attention with RMS-normalised queries and keys and rotary positions.

    Written out: for the 16 to 64 tokens of a small latent, the fused kernel's backward pass on the CPU takes most of a
    training step (2.5 times as long as this).
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.norm_q, self.norm_k = nn.RMSNorm(width // heads, eps=1e-6), nn.RMSNorm(width // heads, eps=1e-6)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(b, tokens, d) to the same; ``cos`` and ``sin`` are (tokens, head_dim / 2)."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # each (b, k, tokens, head_dim)
        q, k = (
            rotate(self.norm_q(q.to(self.norm_q.weight)), cos, sin),
            rotate(self.norm_k(k.to(self.norm_k.weight)), cos, sin),
        )
        weights = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).softmax(dim=-1).to(v.dtype)
        return self.out((weights @ v).transpose(1, 2).flatten(2))


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

    def forward(self, x: Tensor, embedding: Tensor, shared: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shift, scale, gate = self.modulate_attention(embedding, shared)
        x = x + gate * self.attention(self.norm(x) * (1 + scale) + shift, cos, sin)
        shift, scale, gate = self.modulate_mlp(embedding, shared)
        return x + gate * self.mlp(self.norm(x) * (1 + scale) + shift)


def fourier_features(x: Tensor, width: int, max_period: float = 10000.0) -> Tensor:
    """(b,) to (b, width): cosines and sines at geometric frequencies."""
    frequency = max_period ** (-torch.arange(width // 2, device=x.device) / (width // 2))
    phase = x[:, None] * frequency.to(x.dtype) * 1000.0
    return torch.cat([phase.cos(), phase.sin()], dim=-1)
