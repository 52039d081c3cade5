"""Is a layer ever slower than dense where the cost model chose sparse? Every cell of widths, tokens, densities, blocks.

    python -m procosm.benchmarks.sparse.choices

The three products of a square layer (forward and both gradients, as autograd runs them), dense and sparse in turns on
one thread, in processor seconds. Each round begins with dense and times it again before every density, so that what
else the machine does falls on both. ``value`` is the least dense over the least sparse seconds, ``low`` and ``high``
the extremes of the rounds; ``chosen`` says what ``auto`` runs in that cell. Seconds are of one call.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from tqdm import tqdm

from procosm import sparse
from procosm.benchmarks.record import RESULTS, record
from procosm.benchmarks.sparse.cpu import DTYPES, processor
from procosm.sparse import cost, matrix
from procosm.world_model import command
from procosm.world_model.settings import Count, Settings, Share
from procosm.world_model.threads import one_thread

LEAST_SECONDS = 4e-3
"""A product that takes less is called so often that all calls together take as long."""


@dataclass(frozen=True)
class SparseChoicesConfig(Settings):
    """What to time, and how often."""

    out: Path = RESULTS / "sparse_choices.json"
    """Where the result goes."""
    widths: tuple[Count, ...] = (512, 1024, 2048)
    """Sizes d: a layer's weight is d x d."""
    tokens: tuple[Count, ...] = (256, 1024, 2048)
    """Rows of x."""
    densities: tuple[Share, ...] = (0.05, 0.1, 0.25, 0.5)
    """Shares of the blocks that exist."""
    blocks: tuple[Count, ...] = matrix.BLOCKS
    """Sides of blocks."""
    dtypes: tuple[str, ...] = tuple(DTYPES)
    """Of x and the weight."""
    rounds: Count = 3
    """How often each cell is timed, after once that is not."""


class Cell(NamedTuple):
    """A sparse layer among those of one width, number of tokens and dtype."""

    density: float
    block: int


def products(layer: nn.Module, x: Tensor, grad: Tensor) -> None:
    """The three products of a layer without a bias."""
    torch.autograd.grad(layer(x), (x, *layer.parameters()), grad)


def seconds(call: Callable[[], object], times: int) -> float:
    """Of the processor, for one of so many calls."""
    began = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - began) / times


def repeats(call: Callable[[], object]) -> int:
    """How many calls take LEAST_SECONDS."""
    return max(1, round(LEAST_SECONDS / max(seconds(call, 1), 1e-6)))


def group_rows(config: SparseChoicesConfig, dtype: str, d: int, tokens: int) -> list[dict[str, Any]]:
    """A row for each density and block at one width, number of tokens and dtype."""
    kind = DTYPES[dtype]
    generator = torch.Generator().manual_seed(0)
    x, grad = (torch.randn(tokens, d, generator=generator).to(kind) for _ in range(2))
    x.requires_grad_()
    dense = partial(products, nn.Linear(d, d, bias=False, dtype=kind), x, grad)
    layers = {
        Cell(density, block): sparse.nn.Linear(
            d, d, bias=False, block=block, density=density, mode="sparse", generator=generator
        ).to(kind)
        for density in config.densities
        for block in config.blocks
        if block <= d
    }
    calls = {cell: partial(products, layer, x, grad) for cell, layer in layers.items()}
    dense(), [call() for call in calls.values()]
    often, dense_often = {cell: repeats(call) for cell, call in calls.items()}, repeats(dense)
    times: dict[Cell, list[tuple[float, float]]] = {cell: [] for cell in calls}
    for _ in range(config.rounds):
        for density in config.densities:
            beside = seconds(dense, dense_often)
            for cell, call in calls.items():
                if cell.density == density:
                    times[cell].append((beside, seconds(call, often[cell])))
    least = min(beside for pairs in times.values() for beside, _ in pairs)
    rows = []
    for cell, pairs in times.items():
        layer, own = layers[cell], min(taken for _, taken in pairs)
        choice = layer.choice("cpu", kind)
        ratios = [beside / taken for beside, taken in pairs]
        task = f"{dtype} d={d} tokens={tokens} density={cell.density:g} b={cell.block}"
        rows.append(
            {"metric": "speedup of three products", "task": task, "unit": "dense time / sparse time"}
            | {"value": round(least / own, 3), "low": round(min(ratios), 3), "high": round(max(ratios), 3)}
            | {"n": config.rounds, "seed": 0, "dtype": dtype, "d": d, "tokens": tokens, **cell._asdict()}
            | {"kept": layer.live_blocks, "seconds": own, "dense_seconds": least}
            | {"predicted": round(cost.gain((d, d), cell.block, layer.live_blocks, tokens, "cpu", kind.itemsize), 3)}
            | {"chosen": "sparse" if choice.sparse(tokens) else "dense"}
        )
    return rows


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """How many cells auto runs sparse, the least gain among them, and how many are surely slower than dense."""
    taken = [row for row in rows if row["chosen"] == "sparse"]
    left = [row for row in rows if row["chosen"] == "dense" and row["value"] > 1]
    place = {"task": "every cell", "unit": "1"}
    found = [
        {"metric": "cells", "value": len(rows), **place},
        {"metric": "chosen sparse", "value": len(taken), **place},
    ]
    found.append({"metric": "chosen sparse and slower", "value": sum(row["value"] < 1 for row in taken), **place})
    worst = min((row["value"] for row in taken), default=None)
    found.append({"metric": "least gain where sparse was chosen", "value": worst, **place})
    return [*found, {"metric": "left dense though sparse was faster", "value": len(left), **place}]


@one_thread()
def benchmark(config: SparseChoicesConfig) -> Path:
    """Time every cell and write the result after each group."""
    torch.manual_seed(0)
    rows: list[dict[str, Any]] = []
    groups = [(dtype, d, tokens) for dtype in config.dtypes for d in config.widths for tokens in config.tokens]
    details = {"processor": processor(), "threads": 1}
    path = config.out
    for group in tqdm(groups, desc="groups"):
        rows += group_rows(config, *group)
        path = record(config.out.stem, summary(rows) + rows, config.out.parent, details)
    for row in summary(rows):
        print(f"{row['metric']:40} {row['value']}")
    return path


if __name__ == "__main__":
    command.main(benchmark, SparseChoicesConfig)
