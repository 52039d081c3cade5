"""What products really take on a device: a timing of seconds, in place of the tables of ``machines``."""

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from procosm.sparse import machines, matrix
from procosm.sparse.cost import key, step_seconds
from procosm.sparse.machines import Machine
from procosm.sparse.nn import Linear

DENSITY, ROUNDS = 0.125, 3
SIZES = {"cuda": (4096, 8192), "cpu": (512, 1024)}
"""Width and tokens of the layers that are timed."""
SMALL = 128
"""Width of a layer whose products take no time beside their start."""


def measure(device: torch.device, dtypes: Iterable[torch.dtype]) -> None:
    """Time the three products of a layer on ``device``, dense and in blocks of each side, in each of ``dtypes``.

    Layers made or moved from then on are judged by what was found. On a GPU the first call compiles the kernels.
    """
    for dtype in dtypes:
        place = key(device.type, dtype)
        machines.TIMED.pop(place, None)
        width, tokens = SIZES[place[0]]
        start = _taken(_sparse(SMALL, 16, device, dtype), 16) / 3
        dense = _taken(nn.Linear(width, width, bias=False, device=device, dtype=dtype), tokens)
        layers = {block: _sparse(width, block, device, dtype) for block in matrix.BLOCKS}
        times = {block: _taken(layer, tokens) for block, layer in layers.items()}
        kept = {block: layer.live_blocks for block, layer in layers.items()}
        found = fitted(place, width, tokens, start, dense, times, kept)
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else "this processor"
        machines.TIMED[place] = replace(found, source=f"timed on {name}: d {width}, {tokens} tokens")


def fitted(
    place: tuple[str, int], width: int, tokens: int, start: float, dense: float, times: dict[int, float],
    kept: dict[int, int],
) -> Machine:  # fmt: skip
    """The table of ``place`` with rates and efficiencies such that the predictions of a square layer are what it took.

    Args:
        start: seconds of a sparse product of no size. dense: of the three products, dense. times: the same sparse, by
            block. kept: blocks of each of those layers.
    """
    shape, table = (width, width), machines.machine(*place)
    pace = step_seconds(tokens, shape, None, 0, *place) / dense
    found = replace(table, rate=table.rate * pace, bandwidth=table.bandwidth * pace, call_s=table.call_s / pace)
    found = replace(found, start_s=start, margin=max(machines.MARGIN, min(table.margin, 1.4)))
    efficiency = {}
    try:
        for block, taken in times.items():
            machines.TIMED[place] = replace(found, efficiency={block: 1.0})
            least = step_seconds(tokens, shape, block, kept[block], *place)
            arithmetic = 3 * 2.0 * tokens * kept[block] * block**2 / found.rate
            efficiency[block] = arithmetic / max(arithmetic + taken - least, arithmetic)
    finally:
        machines.TIMED.pop(place)
    return replace(found, efficiency=efficiency)


def _sparse(width: int, block: int, device: torch.device, dtype: torch.dtype) -> Linear:
    layer = Linear(width, width, bias=False, block=block, density=DENSITY, mode="sparse")
    return layer.to(device, dtype)


def _taken(layer: nn.Linear | Linear, tokens: int) -> float:
    """Seconds of forward and backward, the least of ROUNDS after one that is not counted."""
    weight = next(layer.parameters())
    x, grad = (torch.randn(tokens, layer.in_features, device=weight.device, dtype=weight.dtype) for _ in range(2))
    call = partial(products, layer, x.requires_grad_(), grad)
    return min([_seconds(call, weight.device) for _ in range(ROUNDS + 1)][1:])


def products(layer: nn.Module, x: Tensor, grad: Tensor) -> None:
    """The three products of a layer without a bias."""
    torch.autograd.grad(layer(x), (x, *layer.parameters()), grad)


def _seconds(call: Callable[[], None], device: torch.device) -> float:
    """Of the processor on a CPU, so that others matter less; else until the device is done."""
    if device.type == "cpu":
        began = time.process_time()
        call()
        return time.process_time() - began
    torch.cuda.synchronize(device)
    began = time.perf_counter()
    call()
    torch.cuda.synchronize(device)
    return time.perf_counter() - began
