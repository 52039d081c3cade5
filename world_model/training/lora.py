"""Low-rank adapters (LoRA, arXiv 2106.09685, section 4.1): W + (α / r) B A, of which A and B alone are trained.

On a block-sparse layer the update is taken at the live blocks alone, so that what comes of it is as sparse as before;
a library of adapters would know torch's layers only.
"""

import math
from collections.abc import Iterable
from fnmatch import fnmatch

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from procosm import sparse
from procosm.sparse import matrix
from procosm.world_model.errors import ProcosmError


class LowRank(nn.Module):
    """A linear layer and a low-rank update beside it, 0 until it is trained.

    Attributes:
        base: dense or block-sparse, frozen.
        down, up: A, (r, in), and B, (out, r).
    """

    def __init__(self, base: nn.Linear | sparse.nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.base, self.scale = base.requires_grad_(False), alpha / rank
        dtype = next(base.parameters()).dtype
        self.down = nn.Parameter(torch.empty(rank, base.in_features, dtype=dtype))
        self.up = nn.Parameter(torch.zeros(base.out_features, rank, dtype=dtype))
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        if isinstance(self.base, sparse.nn.Linear):
            return torch.func.functional_call(self.base, {"values": self.weight()}, (x,))
        return self.base(x) + self.scale * F.linear(F.linear(x, self.down), self.up)

    def weight(self) -> Tensor:
        """W + (α / r) B A: (out, in) of a dense layer, the blocks (c, b, b) of a block-sparse one."""
        if isinstance(self.base, nn.Linear):
            return self.base.weight + self.scale * (self.up @ self.down)
        layer, b = self.base, self.base.block
        more = [padded - size for padded, size in zip(layer.padded, layer.shape, strict=True)]
        up = F.pad(self.up, (0, 0, 0, more[0])).unflatten(0, (-1, b))  # (rows of blocks, b, r)
        down = F.pad(self.down, (0, more[1])).unflatten(1, (-1, b)).movedim(1, 0)  # (columns of blocks, r, b)
        live = matrix.live(layer.index).view(-1, 1, 1)
        return layer.values + live * (self.scale * (up[layer.rows.long()] @ down[layer.cols.long()]))

    @torch.no_grad()
    def merged(self) -> nn.Module:
        """The layer, its weight the sum."""
        weight = self.base.weight if isinstance(self.base, nn.Linear) else self.base.values
        weight.copy_(self.weight())
        return self.base


def adapt(module: nn.Module, rank: int, alpha: float, leave: Iterable[str]) -> list[str]:
    """Put adapters beside the linear layers of a module, in place, and return these layers' names.

    Args:
        leave: name patterns (fnmatch) of layers that get none.

    Raises:
        ProcosmError: there is no layer to adapt, or a rank that makes an adapter as large as its layer.
    """
    patterns = list(leave)
    layers = {
        name: layer
        for name, layer in module.named_modules()
        if isinstance(layer, (nn.Linear, sparse.nn.Linear)) and not any(fnmatch(name, each) for each in patterns)
    }
    least = min((min(layer.in_features, layer.out_features) for layer in layers.values()), default=0)
    if rank >= least:
        raise ProcosmError(f"--lora-rank {rank}: the narrowest layer to adapt has {least} channels; give a lower rank")
    for name, layer in layers.items():
        parent, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(parent), attribute, LowRank(layer, rank, alpha))
    return list(layers)


def merge(module: nn.Module) -> dict[str, Tensor]:
    """Add every adapter to its layer and remove it, in place; returns the factors, ``NAME.down`` and ``NAME.up``."""
    adapters = {name: each for name, each in module.named_modules() if isinstance(each, LowRank)}
    factors: dict[str, Tensor] = {}
    for name, each in adapters.items():
        factors |= {f"{name}.down": each.down.detach(), f"{name}.up": each.up.detach()}
        parent, _, attribute = name.rpartition(".")
        setattr(module.get_submodule(parent), attribute, each.merged())
    return factors
