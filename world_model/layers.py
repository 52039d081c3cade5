"""Blocks shared by the transformers, and how any module's layers become block-sparse."""

import math
from collections.abc import Iterable, Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm import sparse
from procosm.world_model.interface import CheckpointError, ProcosmError
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

    On a CUDA device by the fused kernel. On the CPU written out: for the 4 to 64 tokens of a small latent, the fused
    kernel's backward pass there takes most of a training step (2.5 times as long as this). Samples of fewer than 16
    tokens share their products, a mask between them: many products of 4 by 4 cost twice as much as a quarter as many of
    16 by 16.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv, self.out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.norm_q, self.norm_k = nn.RMSNorm(width // heads, eps=1e-6), nn.RMSNorm(width // heads, eps=1e-6)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """(b, tokens, d) to the same; ``cos`` and ``sin`` are (tokens, head_dim), see ``rope.turns``."""
        batch, tokens = x.shape[:2]
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))  # (b, tokens, 3, k, head_dim)
        gain = torch.stack([self.norm_q.weight, self.norm_k.weight])[:, None]  # both are normalised in one pass
        qk = F.rms_norm(qkv[:, :, :2].to(gain.dtype), gain.shape[-1:], eps=self.norm_q.eps) * gain
        qk = rotate(qk, cos[:, None, None], sin[:, None, None])
        if x.is_cuda:
            q, k, v = (t.transpose(1, 2) for t in (qk[:, :, 0].to(qkv.dtype), qk[:, :, 1].to(qkv.dtype), qkv[:, :, 2]))
            mixed = F.scaled_dot_product_attention(q, k, v)
            return self.out(mixed.transpose(1, 2).reshape(x.shape))
        together = math.gcd(batch, max(1, 16 // tokens))
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
    return x.unflatten(0, (-1, together)).flatten(1, 2)


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


def sparsify(module: nn.Module, density: float, block: int, stay_dense: Iterable[str] = ()) -> None:
    """Make the linear and convolutional layers of a freshly initialised module block-sparse, in place.

    Activations keep their scale, see ``sparse.convert(keep="balanced")``. Dense stay the layers ``stay_dense`` names,
    those that the block does not divide, and those whose share is less than one block.

    Args:
        density: share of each layer's blocks to keep. block: side of a block, 16, 32, 64 or 128.
        stay_dense: name patterns (fnmatch).

    Raises:
        ProcosmError: settings that fit no layer.
    """
    weighty = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, (nn.Linear, nn.Conv2d))]
    tiny = [name for name, layer in weighty if density * layer.weight.numel() < block**2]
    odd = [
        name for name, x in weighty if len(x.weight) % block or x.weight[0].numel() % block
    ]  # padding would be stored
    try:
        done = sparse.convert(module, density, block, [*stay_dense, *tiny, *odd], keep="balanced")
    except sparse.SparseError as error:
        raise ProcosmError(str(error)) from error
    if not done.converted:
        raise ProcosmError(
            f"no layer of {type(module).__name__} can be kept at density {density} in blocks of {block}: take blocks "
            f"of 16, a higher density or a wider preset. {done}"
        )


def weights(module: nn.Module) -> dict[str, int]:
    """How many weights a module has: ``live`` of ``whole`` in its block-sparse layers, and ``dense`` in all others."""
    thin = [layer for layer in module.modules() if isinstance(layer, sparse.nn.BlockWeight)]
    values = {id(layer.values) for layer in thin}
    return {
        "live": sum(layer.live_blocks * layer.block**2 for layer in thin),
        "whole": sum(math.prod(layer.shape) for layer in thin),
        "dense": sum(p.numel() for p in module.parameters() if id(p) not in values),
    }


def census(counts: Mapping[str, Mapping[str, int]]) -> str:
    """A table of what ``weights`` counted, by part, and the share of all weights that exists: not the density."""
    together = {key: sum(n[key] for n in counts.values()) for key in ("live", "whole", "dense")}
    lines = [f"{'weights':10}{'block-sparse':>22}{'dense':>12}{'exist of all':>14}"]
    for name, n in [*counts.items(), ("together", together)]:
        share = (n["live"] + n["dense"]) / (n["whole"] + n["dense"])
        lines.append(f"{name:10}{n['live']:>9,} of {n['whole']:>9,}{n['dense']:>12,}{share:>14.1%}")
    return "\n".join(lines)


def sparse_blocks(module: nn.Module) -> dict[str, int]:
    """Side of the blocks of every block-sparse layer, by its name."""
    layers = module.named_modules()
    return {name: layer.block for name, layer in layers if isinstance(layer, sparse.nn.BlockWeight)}


def sparsify_like(module: nn.Module, blocks: Mapping[str, int], tensors: Mapping[str, Tensor]) -> None:
    """Make the layers of a dense module, in place, ready to load ``tensors``: slots for the live blocks and no more.

    Args:
        blocks: what ``sparse_blocks`` said of the module that was saved. tensors: its state_dict.

    Raises:
        CheckpointError: ``blocks`` and ``tensors`` do not fit each other or the module.
    """
    for name, block in blocks.items():
        values = tensors.get(f"{name}.values")
        if values is None or name not in dict(module.named_modules()):
            raise CheckpointError(f"there is no block-sparse layer {name}: restore config.json, or train again")
        if values.shape[-1] != block:
            raise CheckpointError(
                f"{name} is stored in blocks of {values.shape[-1]}, not {block}: restore config.json, or train again"
            )
        parent, _, attribute = name.rpartition(".")
        alone = nn.ModuleDict({"layer": module.get_submodule(name)})
        share = max(1, len(values)) * block**2 / sum(p.numel() for n, p in alone.named_parameters() if "weight" in n)
        try:
            done = sparse.convert(alone, share, block)
        except sparse.SparseError as error:
            raise CheckpointError(f"{name}: {error}") from error
        if not done.converted:
            raise CheckpointError(f"{name} cannot be block-sparse: restore config.json, or train again. {done}")
        setattr(module.get_submodule(parent), attribute, alone["layer"])
