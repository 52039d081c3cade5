"""A published transformer on several devices, for one that is larger than any of them: layer by layer, in order."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from procosm.world_model.errors import ProcosmError
from procosm.world_model.precision import place
from procosm.world_model.pretrained.transformer import CosmosTransformer

LAST = ("modulate_out", "patch_out")
"""Layers after the blocks."""


def spread(net: CosmosTransformer, devices: Sequence[torch.device], home: torch.device) -> None:
    """Lay a transformer's blocks on devices, equally many on each, in order; what a pass makes goes from one to the
    next. What comes before the blocks lies on the first device, what comes after them on the last.

    Args:
        home: where outputs are wanted.

    Raises:
        ProcosmError: more devices than blocks.
    """
    if len(devices) > len(net.blocks):
        raise ProcosmError(f"{len(devices)} devices for {len(net.blocks)} blocks: give at most one for each")
    layout: list[tuple[nn.Module, torch.device]] = [
        (block, devices[index * len(devices) // len(net.blocks)]) for index, block in enumerate(net.blocks)
    ]
    layout += [(layer, devices[-1 if name in LAST else 0]) for name, layer in net.named_children() if name != "blocks"]
    for layer, device in layout:
        place(layer, device)
        layer.register_forward_pre_hook(partial(_sent, device), with_kwargs=True)
    net.register_forward_pre_hook(partial(_sent, devices[0]), with_kwargs=True)
    net.register_forward_hook(lambda layer, given, made: made.to(home))


def _sent(
    device: torch.device, layer: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What a layer is given, on its device."""
    return tree_map_only(Tensor, lambda tensor: tensor.to(device), (given, dict(named)))
