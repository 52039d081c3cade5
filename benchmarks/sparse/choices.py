"""Is a layer ever slower than dense where the cost model chose sparse? Every cell of widths, tokens, densities, blocks.

    python -m procosm.benchmarks.sparse.choices

The three products of a square layer (forward and both gradients, as autograd runs them), dense and sparse in turns on
one thread, in processor seconds. Each round begins with dense and times it again before every density, so that what
else the machine does falls on both. ``value`` is the least dense over the least sparse seconds, ``low`` and ``high``
the extremes of the rounds; ``chosen`` says what ``auto`` runs in that cell, by the cost model as it is now. Seconds are
of one call. Groups that the result holds are not timed again: killed at any moment, the same command goes on; delete
the file to start anew.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn
from tqdm import tqdm

from procosm import sparse
from procosm.benchmarks.record import RESULTS, record
from procosm.benchmarks.sparse.cpu import DTYPES, processor
from procosm.sparse import cost, matrix
from procosm.sparse.timing import products
from procosm.world_model import command
from procosm.world_model.files import read_json
from procosm.world_model.settings import Count, Settings, Share
from procosm.world_model.threads import one_thread

LEAST_SECONDS = 4e-3
"""A product that takes less is called so often that all calls together take as long."""


@dataclass(frozen=True)
class SparseChoicesConfig(Settings):
    """What to time, and how often."""

    out: Path = RESULTS / "sparse_choices.json"
    """Where the result goes, and what is gone on with."""
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
    torch.manual_seed(0)
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
    dense()
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
        own = min(taken for _, taken in pairs)
        ratios = [beside / taken for beside, taken in pairs]
        task = f"{dtype} d={d} tokens={tokens} density={cell.density:g} b={cell.block}"
        rows.append(
            {"metric": "speedup of three products", "task": task, "unit": "dense time / sparse time"}
            | {"value": round(least / own, 3), "low": round(min(ratios), 3), "high": round(max(ratios), 3)}
            | {"n": config.rounds, "seed": 0, "dtype": dtype, "d": d, "tokens": tokens, **cell._asdict()}
            | {"kept": layers[cell].live_blocks, "seconds": own, "dense_seconds": least}
        )
    return rows


def judged(row: dict[str, Any]) -> dict[str, Any]:
    """A row with what the cost model predicts and chooses."""
    at = (row["d"], row["d"]), row["block"], row["kept"]
    itemsize = DTYPES[row["dtype"]].itemsize
    predicted = round(cost.gain(*at, row["tokens"], "cpu", itemsize), 3)
    taken = cost.choose(*at, "cpu", itemsize).sparse(row["tokens"])
    return row | {"predicted": predicted, "chosen": "sparse" if taken else "dense"}


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
    details = {"processor": processor(), "threads": 1}
    held = read_json(config.out) if config.out.exists() else {}
    rows = [row for row in held.get("rows", []) if "block" in row and held["details"] == details]
    done = {(row["dtype"], row["d"], row["tokens"]) for row in rows}
    groups = [(dtype, d, tokens) for dtype in config.dtypes for d in config.widths for tokens in config.tokens]

    def write() -> Path:
        told = [judged(row) for row in rows]
        return record(config.out.stem, summary(told) + told, config.out.parent, details)

    for group in tqdm([group for group in groups if group not in done], desc="groups"):
        rows += group_rows(config, *group)
        write()
    path = write()
    for row in read_json(path)["rows"]:
        if "block" not in row:
            print(f"{row['metric']:40} {row['value']}")
    return path


if __name__ == "__main__":
    command.main(benchmark, SparseChoicesConfig)
