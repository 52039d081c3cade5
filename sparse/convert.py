"""Existing torch models in and out of block-sparse form."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn

from procosm.sparse import matrix
from procosm.sparse.errors import SparseError
from procosm.sparse.nn import BlockWeight, Conv2d, Conv3d, Linear

KEEP = ("largest", "balanced")
Dense = nn.Linear | nn.Conv2d | nn.Conv3d
_CONVS: dict[type, type] = {nn.Conv2d: Conv2d, nn.Conv3d: Conv3d}


@dataclass(frozen=True)
class Conversion:
    """What ``convert`` did.

    Attributes:
        converted: names of the layers that are block-sparse now.
        skipped: name and reason of every linear or convolutional layer left dense.
    """

    converted: tuple[str, ...]
    skipped: dict[str, str]

    def __str__(self) -> str:
        lines = [f"{len(self.converted)} layers are block-sparse, {len(self.skipped)} stay dense"]
        return "\n".join(lines + [f"  {name}: {reason}" for name, reason in self.skipped.items()])


def convert(
    model: nn.Module, density: float, block: int = 64, skip: Iterable[str] = (), headroom: float = 1.0,
    mode: str = "auto", generator: torch.Generator | None = None, keep: str = "largest",
) -> Conversion:  # fmt: skip
    """Replace the Linear, Conv2d and Conv3d layers inside ``model`` by block-sparse ones, in place.

    The kept blocks have the values they have. Make the optimizer afterwards: the parameters are new.

    Args:
        skip: name patterns (fnmatch) to leave dense, such as ["head*"]; a layer with several names goes by its first.
        keep: "largest", the blocks of largest norm (ties are broken at random), or "balanced", for weights that have
            learnt nothing yet: the same number in every row and column, see matrix.balanced_kept.
        headroom: slots allocated per kept block, from 1 up, for training methods that move blocks between layers.

    Raises:
        SparseError: a setting outside its range, or ``model`` itself is the layer.
    """
    if keep not in KEEP:
        raise SparseError(f"unknown keep {keep!r}: choose one of {KEEP}")
    if not 0.0 < density <= 1.0:
        raise SparseError(f"density {density} is outside (0, 1]: it is the share of blocks to keep")
    if block not in matrix.BLOCKS:
        raise SparseError(f"block size {block} is not supported; choose one of {matrix.BLOCKS}")
    if headroom < 1.0:
        raise SparseError(f"headroom {headroom} is below 1: every kept block needs a slot")
    if isinstance(model, Dense):
        raise SparseError("a lone layer cannot be replaced in place: wrap it in torch.nn.Sequential")
    patterns, converted, skipped = (skip,) if isinstance(skip, str) else tuple(skip), [], {}
    done: dict[nn.Module, nn.Module] = {}  # a layer used in two places stays one layer
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if not isinstance(layer, Dense):
            continue
        if layer in done:
            _put(model, name, done[layer])
            continue
        reason = _obstacle(name, layer, block, patterns)
        if reason:
            skipped[name] = reason
            continue
        done[layer] = _counterpart(layer, density, block, headroom, mode, generator, keep).train(layer.training)
        _put(model, name, done[layer])
        converted.append(name)
    return Conversion(tuple(converted), skipped)


def to_dense(model: nn.Module) -> nn.Module:
    """A copy of ``model`` with every block-sparse layer as the ordinary torch layer that computes the same."""
    model = copy.deepcopy(model)
    if isinstance(model, BlockWeight):
        return _dense_layer(model)
    done: dict[nn.Module, nn.Module] = {}
    for name, layer in list(model.named_modules(remove_duplicate=False)):
        if isinstance(layer, BlockWeight):
            _put(model, name, done.setdefault(layer, _dense_layer(layer)))
    return model


def flat_weight(layer: Dense) -> Tensor:
    """The weight of a dense layer as (out, fan-in), the fan-in of a convolution ordered position by position."""
    weight = layer.weight.detach()
    return weight if weight.ndim == 2 else weight.movedim(1, -1).flatten(1)


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)


def _obstacle(name: str, layer: Dense, block: int, patterns: tuple[str, ...]) -> str:
    if any(fnmatch(name, pattern) for pattern in patterns):
        return "named in skip"
    if type(layer) not in (nn.Linear, nn.Conv2d, nn.Conv3d):
        return f"a subclass of torch's layer ({type(layer).__name__}) may compute something else"
    if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
        if layer.groups != 1:
            return f"{layer.groups} groups"
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            return "padding other than numbers of zeros"
    try:
        weight = flat_weight(layer)
        matrix.grid_of((weight.shape[0], weight.shape[1]), block)
    except SparseError as error:
        return str(error)
    return ""


def _counterpart(
    layer: Dense, density: float, block: int, headroom: float, mode: str, generator: torch.Generator | None,
    keep: str,
) -> BlockWeight:  # fmt: skip
    weight = flat_weight(layer)
    gm, gn = matrix.grid_of((weight.shape[0], weight.shape[1]), block)
    n = max(1, round(density * gm * gn))
    shared: dict[str, Any] = {
        "bias": layer.bias is not None, "block": block, "density": density, "mode": mode, "generator": generator,
        "capacity": min(gm * gn, max(n, round(headroom * n))),
    }  # fmt: skip
    if isinstance(layer, nn.Linear):
        sparse: BlockWeight = Linear(layer.in_features, layer.out_features, **shared)
    else:
        geometry = {k: getattr(layer, k) for k in ("kernel_size", "stride", "padding", "dilation")}
        sparse = _CONVS[type(layer)](layer.in_channels, layer.out_channels, **geometry, **shared)
    if keep == "largest":
        norms = weight.float().reshape(gm, block, gn, block).square().sum((1, 3)).flatten()
        shuffled = torch.randperm(gm * gn, generator=generator).to(norms.device)
        order = shuffled[torch.argsort(norms[shuffled], descending=True, stable=True)]
        kept = torch.zeros(gm * gn, dtype=torch.bool, device=norms.device)
        kept[order[:n]] = True
    else:
        kept = matrix.balanced_kept((weight.shape[0], weight.shape[1]), block, density, generator)
    sparse.to(weight)
    sparse.adopt(weight, kept.view(gm, gn))
    if sparse.bias is not None and layer.bias is not None:
        sparse.bias.data.copy_(layer.bias.data)
    return sparse


def _dense_layer(layer: BlockWeight) -> nn.Module:
    weight = layer.dense_weight() if isinstance(layer, (Conv2d, Conv3d)) else layer.to_dense()
    if isinstance(layer, (Conv2d, Conv3d)):
        torch_type: type = nn.Conv2d if isinstance(layer, Conv2d) else nn.Conv3d
        geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        dense: nn.Module = torch_type(layer.in_channels, layer.out_channels, *geometry, bias=layer.bias is not None)
    else:
        dense = nn.Linear(layer.shape[1], layer.shape[0], bias=layer.bias is not None)
    dense.weight = nn.Parameter(weight.detach().contiguous())
    if layer.bias is not None:
        dense.bias = nn.Parameter(layer.bias.detach().clone())
    return dense.train(layer.training)
