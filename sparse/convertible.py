"""Which layers can become block-sparse without losing what a user has tied, hooked or put on them."""

from fnmatch import fnmatch
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from procosm.sparse import matrix
from procosm.sparse.autograd import DTYPES
from procosm.sparse.errors import SparseError

Dense = nn.Linear | nn.Conv2d | nn.Conv3d


def flat_weight(layer: Dense) -> Tensor:
    """The weight of a dense layer as (out, fan-in), the fan-in of a convolution ordered position by position."""
    weight = layer.weight.detach()
    return weight if weight.ndim == 2 else weight.movedim(1, -1).flatten(1)


def hooks_of(layer: nn.Module) -> dict[str, Any]:
    """Every table of hooks that a module has, by attribute, and what marks its backward hooks as full ones."""
    return {
        name: value for name, value in vars(layer).items() if name.endswith(("_hook", "_hooks")) or "_hooks_" in name
    }


def obstacle(name: str, layer: Dense, block: int, keep: str, patterns: tuple[str, ...]) -> str:
    """Why a layer must stay dense, or an empty string.

    Args:
        name: of the layer in its model. keep: how its blocks are to be chosen, see convert. patterns: names to skip.
    """
    if any(fnmatch(name, pattern) for pattern in patterns):
        return "named in skip"
    if isinstance(layer.weight, nn.UninitializedParameter):
        return "its weight has no shape yet: run the model once before it is converted"
    if parametrize.is_parametrized(layer):
        return "its weight or bias is parametrized"
    if type(layer) not in (nn.Linear, nn.Conv2d, nn.Conv3d):
        return f"a subclass of torch's layer ({type(layer).__name__}) may compute something else"
    return _burden(layer) or _weight_fault(layer, keep) or _shape_fault(layer, block)


def ties_of(model: nn.Module) -> dict[nn.Module, str]:
    """The modules whose parameters overlap in memory with those of another module, and with which of them."""
    spans: dict[tuple[Any, int], list[tuple[int, int, str, nn.Module]]] = {}
    for prefix, module in model.named_modules():
        for name, tensor in [*module._parameters.items(), *module._buffers.items()]:
            shapeless = tensor is None or isinstance(tensor, nn.UninitializedParameter | nn.UninitializedBuffer)
            if shapeless or tensor.numel() == 0 or tensor.layout != torch.strided:
                continue
            start = tensor.data_ptr() if not tensor.is_meta else id(tensor)
            reach = sum((size - 1) * stride for size, stride in zip(tensor.shape, tensor.stride(), strict=True)) + 1
            end = start + (1 if tensor.is_meta else reach * tensor.element_size())
            spans.setdefault(tensor.device, []).append((start, end, f"{prefix}.{name}".lstrip("."), module))
    ties: dict[nn.Module, str] = {}
    for found in spans.values():
        found.sort(key=lambda span: span[:2])
        widest = found[0]
        for span in found[1:]:
            if span[0] < widest[1] and span[3] is not widest[3]:
                ties.setdefault(span[3], f"{span[2]} is tied to {widest[2]}")
                ties.setdefault(widest[3], f"{widest[2]} is tied to {span[2]}")
            if span[1] > widest[1]:
                widest = span
    return ties


def _burden(layer: Dense) -> str:
    """What hangs on a layer and would be lost with it."""
    if "forward" in vars(layer):
        return "its forward was replaced"
    extra = {*layer._parameters, *layer._buffers, *layer._modules} - {"weight", "bias"}
    if extra or "weight" not in layer._parameters:
        return f"it holds more than a weight and a bias ({', '.join(sorted(extra))}): pruned or normalised, perhaps"
    hooks = [name.strip("_") for name, table in hooks_of(layer).items() if isinstance(table, dict) and table]
    for name, parameter in layer.named_parameters():
        if parameter._backward_hooks or getattr(parameter, "_post_accumulate_grad_hooks", None):
            hooks.append(f"hooks of {name}")
    return f"it has {', '.join(hooks)}" if hooks else ""


def _weight_fault(layer: Dense, keep: str) -> str:
    weight = layer.weight
    if type(weight) is not nn.Parameter or weight.layout != torch.strided:
        return f"its weight is a {type(weight).__name__} of layout {weight.layout}"
    if weight.dtype not in DTYPES:
        return f"its weight is {weight.dtype}"
    if weight.is_meta and keep == "largest":
        return "on the meta device no block is the largest: load it first, or keep='balanced'"
    return ""


def _shape_fault(layer: Dense, block: int) -> str:
    if isinstance(layer, (nn.Conv2d, nn.Conv3d)):
        if layer.groups != 1:
            return f"{layer.groups} groups"
        if layer.padding_mode != "zeros" or isinstance(layer.padding, str):
            return "padding other than numbers of zeros"
    try:
        weight = flat_weight(layer)
        matrix.padded_shape((weight.shape[0], weight.shape[1]), block)
    except SparseError as error:
        return str(error)
    return ""
