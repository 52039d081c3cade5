"""A transformer with the layers of Cosmos-Predict1's diffusion model (arXiv 2501.03575, section 5.1), to be timed."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm.world_model.layers import AdaLNLoRA


class CosmosBlock(nn.Module):
    """Self-attention, cross-attention to text, MLP, each modulated and gated (Cosmos-Predict1, section 5.1)."""

    def __init__(self, width: int, heads: int, rank: int = 256) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width, elementwise_affine=False, eps=1e-6)
        self.modulation = nn.ModuleList(AdaLNLoRA(width, rank, 3) for _ in range(3))
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.query, self.key_value = nn.Linear(width, width, bias=False), nn.Linear(width, 2 * width, bias=False)
        self.cross_out = nn.Linear(width, width, bias=False)
        self.norm_q, self.norm_k = nn.RMSNorm(width // heads), nn.RMSNorm(width // heads)
        self.up, self.down = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor, text: Tensor, embedding: Tensor, shared: Tensor) -> Tensor:
        """x (b, tokens, d), text (b, text tokens, d), embedding (b, d), shared (b, 3 d) to the shape of x."""
        steps: tuple[Callable[[Tensor], Tensor], ...] = (self._attend, lambda h: self._cross(h, text), self._mlp)
        for modulate, step in zip(self.modulation, steps, strict=True):
            shift, scale, gate = modulate(embedding, shared)
            x = x + gate * step(self.norm(x) * (1 + scale) + shift)
        return x

    def _attend(self, h: Tensor) -> Tensor:
        q, k, v = self.qkv(h).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.out(self._mix(q, k, v))

    def _cross(self, h: Tensor, text: Tensor) -> Tensor:
        q = self.query(h).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.key_value(text).unflatten(-1, (2, self.heads, -1)).permute(2, 0, 3, 1, 4)
        return self.cross_out(self._mix(q, k, v))

    def _mix(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k = (norm(t.to(norm.weight)).to(v.dtype) for norm, t in ((self.norm_q, q), (self.norm_k, k)))
        return F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)

    def _mlp(self, h: Tensor) -> Tensor:
        return self.down(F.gelu(self.up(h)))


class CosmosShaped(nn.Module):
    """``layers`` blocks; (loss, metrics) of a batch as every model of the project gives them."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(CosmosBlock(width, heads) for _ in range(layers))

    def forward(self, batch: tuple[Tensor, ...]) -> tuple[Tensor, dict[str, float]]:
        """batch: x, text, embedding, shared of CosmosBlock."""
        x, *others = batch
        for block in self.blocks:
            x = block(x, *others)
        return x.float().square().mean(), {}


def example(
    width: int, heads: int, layers: int, tokens: int, text_tokens: int, device: str
) -> tuple[CosmosShaped, tuple[Tensor, ...]]:
    """The model and one clip of standard normal numbers, on ``device``."""
    with torch.device(device):
        model = CosmosShaped(width, heads, layers)
        batch = tuple(torch.randn(1, *size) for size in ((tokens, width), (text_tokens, width), (width,), (3 * width,)))
    return model, batch
