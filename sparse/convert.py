"""Existing torch models in and out of block-sparse form."""

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from procosm.sparse import matrix
from procosm.sparse.convertible import Dense, flat_weight, hooks_of, obstacle, ties_of
from procosm.sparse.errors import SparseError
from procosm.sparse.nn import BlockWeight, Conv2d, Conv3d, Linear
from procosm.sparse.schedule import allocate

KEEP, ALLOCATIONS = ("largest", "balanced"), ("uniform", "erk")
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
    mode: str = "auto", generator: torch.Generator | None = None, keep: str = "largest", allocation: str = "uniform",
    rescale: bool | None = None,
) -> Conversion:  # fmt: skip
    """Replace the Linear, Conv2d and Conv3d layers inside ``model`` by block-sparse ones, in place.

    The kept blocks have the values they have, and what is frozen stays frozen. Make the optimizer afterwards: the
    parameters are new. Layers that share their weight, have hooks, are pruned or parametrized stay dense.

    Args:
        skip: name patterns (fnmatch) to leave dense, such as ["head*"]; a layer with several names goes by its first.
        keep: "largest", for trained weights: the blocks of largest norm (ties are broken at random), first of each row
            of blocks, so that no output is cut off. "balanced", for weights that have learnt nothing yet: the same
            number in every row and column, see matrix.balanced_kept.
        allocation: "uniform", every layer has ``density``, or "erk", small layers have more and all together have it.
        rescale: multiply the kept values so that their sum of squares stays that of the whole weight, and activations
            keep their scale. None: if ``keep`` is "balanced".
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
    if allocation not in ALLOCATIONS:
        raise SparseError(f"unknown allocation {allocation!r}: choose one of {ALLOCATIONS}")
    if headroom < 1.0:
        raise SparseError(f"headroom {headroom} is below 1: every kept block needs a slot")
    if isinstance(model, Dense):
        raise SparseError("a lone layer cannot be replaced in place: wrap it in torch.nn.Sequential")
    if any(isinstance(module, nn.parallel.DistributedDataParallel) for module in model.modules()):
        raise SparseError("DistributedDataParallel averages the parameters it was built with: convert, then wrap")
    patterns, converted, skipped = (skip,) if isinstance(skip, str) else tuple(skip), [], {}
    ties = ties_of(model)
    taken: dict[Dense, list[str]] = {}  # a layer used in two places stays one layer
    for name, layer in model.named_modules(remove_duplicate=False):
        if not isinstance(layer, Dense):
            continue
        reason = obstacle(name, layer, block, keep, patterns) or ties.get(layer, "")
        if layer in taken or not reason:
            taken.setdefault(layer, []).append(name)
        else:
            skipped[name] = reason
    shares = allocate([tuple(x.weight.shape) for x in taken], [x.weight.numel() for x in taken], density, allocation)
    rescale = keep == "balanced" if rescale is None else rescale
    for (layer, names), share in zip(taken.items(), shares, strict=True):
        sparse = _counterpart(layer, share, block, headroom, mode, generator, keep, rescale)
        for name in names:
            _put(model, name, sparse)
        converted.append(names[0])
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


def _put(model: nn.Module, name: str, layer: nn.Module) -> None:
    parent, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(parent), attribute, layer)


def _counterpart(
    layer: Dense, density: float, block: int, headroom: float, mode: str, generator: torch.Generator | None,
    keep: str, rescale: bool,
) -> BlockWeight:  # fmt: skip
    weight = flat_weight(layer)
    padded = matrix.padded_shape((weight.shape[0], weight.shape[1]), block)
    gm, gn = matrix.grid_of(padded, block)
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
        whole = functional.pad(weight.float(), (0, padded[1] - weight.shape[1], 0, padded[0] - weight.shape[0]))
        kept = _largest(whole.reshape(gm, block, gn, block).square().sum((1, 3)), n, generator)
    else:
        kept = matrix.balanced_kept(padded, block, density, generator)
    sparse.to(weight)
    if not weight.is_meta:
        sparse.adopt(weight, kept)
        norm = sparse.values.detach().norm()
        if rescale and norm > 0:
            sparse.values.data.mul_(weight.norm() / norm)
    sparse.values.requires_grad_(layer.weight.requires_grad)
    vars(sparse.values).update(vars(layer.weight))
    if sparse.bias is not None and layer.bias is not None:
        sparse.bias.data.copy_(layer.bias.data)
        sparse.bias.requires_grad_(layer.bias.requires_grad)
        vars(sparse.bias).update(vars(layer.bias))
    marks = {key: value for key, value in vars(layer).items() if not hasattr(sparse, key)}
    vars(sparse).update(marks)  # what the model's author wrote on the layer
    return sparse.train(layer.training)


def _largest(norms: Tensor, n: int, generator: torch.Generator | None) -> Tensor:
    """bool (Gm, Gn): the ``n`` largest of ``norms`` (Gm, Gn), among them the largest of each row if n >= Gm."""
    device = "cpu" if generator is None else generator.device
    shuffled = torch.randperm(norms.numel(), generator=generator, device=device).to(norms.device)
    rank = torch.empty_like(norms.flatten())
    order = shuffled[torch.argsort(norms.flatten()[shuffled], stable=True)]
    rank[order] = torch.arange(len(order), dtype=rank.dtype, device=rank.device)
    if n >= norms.shape[0]:
        best = rank.view(norms.shape).argmax(1)
        rank.view(norms.shape).scatter_(1, best[:, None], torch.inf)
    kept = torch.zeros(norms.numel(), dtype=torch.bool, device=norms.device)
    kept[rank.topk(n).indices] = True
    return kept.view(norms.shape)


def _dense_layer(layer: BlockWeight) -> nn.Module:
    if isinstance(layer, (Conv2d, Conv3d)):
        torch_type: type = nn.Conv2d if isinstance(layer, Conv2d) else nn.Conv3d
        geometry = (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
        dense: nn.Module = torch_type(layer.in_channels, layer.out_channels, *geometry, bias=layer.bias is not None)
    else:
        dense = nn.Linear(layer.shape[1], layer.shape[0], bias=layer.bias is not None)
    dense.weight = nn.Parameter(layer.weight.detach().contiguous(), layer.values.requires_grad)
    if layer.bias is not None:
        dense.bias = nn.Parameter(layer.bias.detach().clone(), layer.bias.requires_grad)
    vars(dense).update(hooks_of(layer))
    return dense.train(layer.training)
