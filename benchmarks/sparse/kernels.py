"""How fast are the sparse products on a GPU? Against dense cuBLAS, other block-sparse code, and the machine's roof.

    python -m procosm.benchmarks.sparse.kernels          # on a CUDA device; run again, it goes on where it stopped
    python -m procosm.benchmarks.sparse.kernels --quick    # seconds; without a CUDA device the CPU path, and says so

Random data. ``value`` of a time is the median over ``rounds`` launches, each timed by its own pair of events after the
L2 cache was overwritten; ``low`` and ``high`` are the extremes. Errors are against float64 on a sample of the results.
"""

import itertools
import json
import statistics
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.benchmarks.sparse.kernel_rivals import RIVALS, Cell, Products
from procosm.sparse import cost, matrix
from procosm.sparse.autograd import backend
from procosm.world_model import command
from procosm.world_model.provenance import commit
from procosm.world_model.settings import Count, Positive, Share

SEED = 0
NOT_MEASURED = "not measured: no CUDA device"
ROOFS = {"H200": (989e12, 4.8e12), "H100": (989e12, 3.35e12)}
"""Data-sheet peaks of dense bfloat16 (FLOP/s) and of memory (bytes/s), by a word in the device's name (SXM forms)."""


@dataclass(frozen=True)
class KernelsConfig(OnDevice):
    """What to time, and how often."""

    out: Path = RESULTS / "kernels.json"
    """Where the result goes; rows it already has, from the same device and commit, are kept."""
    quick: bool = False
    """A few small cells, in seconds; on the CPU where there is no CUDA device."""
    blocks: tuple[Count, ...] = (32, 64, 128)
    """Block sides."""
    densities: tuple[Share, ...] = (0.05, 0.1, 0.25, 0.5)
    """Shares of blocks kept."""
    widths: tuple[Count, ...] = (1024, 2048, 4096, 8192)
    """Layer sizes d: the weight is d x d."""
    tokens: tuple[Count, ...] = (2048, 4096, 8192, 16384, 32768)
    """Rows of x."""
    rival_cell: tuple[int, int] = (4096, 8192)
    """(d, tokens) at which the other implementations are tuned and timed, at every block."""
    rival_density: Share = 0.1
    """The density there."""
    rounds: Count = 11
    """How often a product is timed."""
    limit_s: Positive = 450.0
    """Stop starting new cells after this long; run again for the rest."""


def products_of(cell: Cell) -> Products:
    """Our three products."""
    w, x, grad = cell.weight, cell.x, cell.grad
    mine = backend(x)
    return {
        "forward": lambda: mine.forward(x, w.values, w.cols, w.row_ptr),
        "data_gradient": lambda: mine.data_gradient(grad, w.values, w.rows, w.perm, w.col_ptr),
        "weight_gradient": lambda: mine.weight_gradient(grad, x, w.rows, w.cols, w.row_ptr),
    }


def dense_products(cell: Cell, weight: Tensor) -> Products:
    """The same by dense matrix products (cuBLAS on a GPU)."""
    x, grad = cell.x, cell.grad
    return {
        "forward": lambda: x @ weight.t(),
        "data_gradient": lambda: grad @ weight,
        "weight_gradient": lambda: grad.t() @ x,
    }


def timed(call: Callable[[], Any], device: str, rounds: int) -> list[float]:
    """Seconds of each of ``rounds`` calls after two untimed ones."""
    call(), call()
    if device == "cpu":
        found = []
        for _ in range(rounds):
            start = time.perf_counter()
            call()
            found.append(time.perf_counter() - start)
        return found
    # More than any L2, and so long to overwrite that the host has queued the call before the device comes to it.
    flush = torch.empty(1 << 30, dtype=torch.int32, device=device)
    events = [[torch.cuda.Event(enable_timing=True) for _ in range(2)] for _ in range(rounds)]
    for begin, end in events:
        flush.zero_()
        begin.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return [begin.elapsed_time(end) * 1e-3 for begin, end in events]


def error_of(operation: str, got: Tensor, cell: Cell) -> float:
    """Largest error over the largest entry, against float64 on 64 sampled tokens or the first 4 live blocks."""
    w, b = cell.weight, cell.weight.block
    if operation == "weight_gradient":
        pairs = zip(w.rows[:4].tolist(), w.cols[:4].tolist(), got[:4], strict=True)
        found = [
            (tile, cell.grad[:, r * b : (r + 1) * b].double().t() @ cell.x[:, c * b : (c + 1) * b].double())
            for r, c, tile in pairs
        ]
        worst = [((tile.double() - truth).abs().max() / truth.abs().max()).item() for tile, truth in found]
        return max(worst, default=0.0)
    dense = matrix.to_dense(w).double()
    sample = torch.linspace(0, len(cell.x) - 1, 64, device=cell.x.device).long()
    truth = cell.x[sample].double() @ dense.t() if operation == "forward" else cell.grad[sample].double() @ dense
    return ((got[sample].double() - truth).abs().max() / truth.abs().max()).item()


def time_row(what: str, operation: str, cell: Cell, times: list[float], device: str) -> dict[str, Any]:
    """One time, what it must compute and move, and which share of the roof that is."""
    w, tokens = cell.weight, len(cell.x)
    elements = w.shape[0] * w.shape[1] if what.startswith("dense") else w.n * w.block**2
    work = cost.work(operation, tokens, w.shape, elements, cell.x.element_size())
    middle = statistics.median(times)
    roof = next((peaks for word, peaks in ROOFS.items() if word in device_name(device)), None)
    floor = None if roof is None else max(work.flops / roof[0], work.bytes / roof[1])
    return {
        **key_of(what, operation, w.block, w.density, w.shape[0], tokens), "metric": f"seconds of {operation}",
        "value": middle, "unit": "s", "low": min(times), "high": max(times), "n": len(times), "seed": SEED,
        "flops": work.flops, "bytes": work.bytes, "share_of_roof": None if floor is None else floor / middle,
        "path": device,
    }  # fmt: skip


def key_of(what: str, operation: str, block: int, density: float, width: int, tokens: int) -> dict[str, Any]:
    """What tells one measurement from another; a dense product is the same for every pattern."""
    if what.startswith("dense"):
        block, density = 0, 1.0
    task = f"{what} d={width} tokens={tokens}" + (f" b={block} density={density:.3g}" if block else "")
    return {"implementation": what, "operation": operation, "block": block, "density": round(density, 4), "d": width,
            "tokens": tokens, "task": task}  # fmt: skip


def cell_of(width: int, tokens: int, block: int, density: float, device: str) -> Cell:
    """Standard normal weight, input and gradient in bfloat16, reproducible on one kind of device."""
    generator = torch.Generator().manual_seed(SEED)
    kept = matrix.random_kept((width, width), block, density, generator).to(device)
    index = matrix.layout(kept, int(kept.sum()))
    on_device = torch.Generator(device).manual_seed(SEED)
    values, x, grad = (
        torch.randn(size, generator=on_device, device=device, dtype=torch.bfloat16)
        for size in ((index.rows.numel(), block, block), (tokens, width), (tokens, width))
    )
    return Cell(matrix.BlockSparse(**vars(index), values=values, shape=(width, width)), x, grad)


def measure(cell: Cell, what: str, products: Products, device: str, rounds: int) -> list[dict[str, Any]]:
    """A row for each product."""
    rows = []
    for operation, call in products.items():
        got = call()
        row = time_row(what, operation, cell, timed(call, device, rounds), device)
        if what == "procosm":
            choice = cost.choose(cell.weight.shape, cell.weight.block, cell.weight.n, device, 2)
            row["cost_chose_sparse"] = choice.sparse(len(cell.x))
        if what == "procosm" or (what.startswith("torch BSR") and isinstance(got, Tensor)):
            row["error_against_float64"] = error_of(operation, got, cell)
        rows.append(row)
        del got
    return rows


def rival_rows(cell: Cell, names: list[str], device: str, rounds: int) -> list[dict[str, Any]]:
    """Other implementations on this cell; one that is missing or fails gives a row that says why."""
    rows = []
    for what in names:
        try:
            rows += measure(cell, what, RIVALS[what](cell), device, rounds)
        except Exception as error:  # other people's code may fail in any way, and that is a result
            w = cell.weight
            key = key_of(what, "forward", w.block, w.density, w.shape[0], len(cell.x))
            reason = f"not measured: {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            rows.append({**key, "metric": "seconds of forward", "value": None, "unit": "s", "status": reason[:200]})
    return rows


def speedups(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Dense time over our time wherever both were measured."""
    dense = {(r["operation"], r["d"], r["tokens"], r["path"]): r["value"] for r in rows
             if r.get("implementation") == "dense" and r["value"]}  # fmt: skip
    found = []
    for row in rows:
        base = dense.get((row.get("operation"), row.get("d"), row.get("tokens"), row.get("path")))
        if row.get("implementation") == "procosm" and row["value"] and base:
            kept = {name: row[name] for name in ("operation", "block", "density", "d", "tokens", "task", "path")}
            found.append({**kept, "metric": f"speedup of {row['operation']}", "value": base / row["value"],
                          "unit": "dense time / sparse time", "n": row["n"], "seed": SEED})  # fmt: skip
    return found


def device_name(device: str) -> str:
    """What the results were measured on."""
    return torch.cuda.get_device_name() if device == "cuda" else "CPU path"


def machine(device: str) -> dict[str, Any]:
    """Device, driver and CUDA versions for the result file."""
    if device == "cpu":
        return {"device": device_name(device), "driver": None, "cuda": torch.version.cuda}
    asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    driver = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.split("\n")[0].strip()
    capability = ".".join(map(str, torch.cuda.get_device_capability()))
    return {"device": device_name(device), "driver": driver, "cuda": torch.version.cuda, "capability": capability}


def known(out: Path, where: dict[str, Any]) -> list[dict[str, Any]]:
    """The measured rows of an earlier run of the same commit on the same machine."""
    if not out.exists():
        return []
    earlier = json.loads(out.read_text(encoding="utf-8"))
    if earlier.get("details", {}).get("machine") != where or earlier["commit"] != commit():
        return []
    return [row for row in earlier["rows"] if "implementation" in row and row["value"] is not None]


def plan(config: KernelsConfig) -> list[tuple[int, int, int, float]]:
    """(d, tokens, block, density), the cells that matter most first: large layers, density .1."""
    cells = itertools.product(config.widths, config.tokens, config.blocks, config.densities)
    return sorted(cells, key=lambda c: ((c[0], c[1]) != config.rival_cell, abs(c[3] - 0.1), -c[2], -c[0], c[1]))


def quick(config: KernelsConfig) -> KernelsConfig:
    """The same in seconds."""
    config = replace(config, widths=(512,), tokens=(512,), densities=(0.25, 0.5), rounds=3)
    return replace(config, rival_cell=(512, 512), rival_density=0.25)


def cell_rows(config: KernelsConfig, cell: Cell, device: str, done: set[tuple[str, str]]) -> list[dict[str, Any]]:
    """The rows of one cell that are not ``done``, which they join: (task, operation) of the last product of each."""
    w, tokens, rows = cell.weight, len(cell.x), []
    builders: dict[str, Callable[[], Products]] = {
        "dense": lambda: dense_products(cell, matrix.to_dense(w)),
        "procosm": lambda: products_of(cell),
    }
    for what, build in builders.items():
        last = (key_of(what, "", w.block, w.density, w.shape[0], tokens)["task"], "weight_gradient")
        if last not in done:
            rows += measure(cell, what, build(), device, config.rounds)
            done.add(last)
    return rows


def benchmark(config: KernelsConfig) -> Path:
    """Measure what is missing, within the time limit; what was measured is written every ten seconds."""
    device = config.resolved().type
    if device == "cpu" and not config.quick:
        raise SystemExit("no CUDA device: run on one, or with --quick to time the CPU path")
    config = quick(config) if config.quick else config
    where, began = machine(device), time.perf_counter()
    rows, saved = known(config.out, where), began
    done = {(row["task"], row["operation"]) for row in rows}
    rivals_done = {(row["implementation"], row["block"]) for row in rows}
    left = 0
    for width, tokens, block, density in plan(config):
        if time.perf_counter() - began > config.limit_s:
            left += 1
            continue
        cell = cell_of(width, tokens, block, density, device)
        rows += cell_rows(config, cell, device, done)
        if device == "cuda" and (width, tokens, density) == (*config.rival_cell, config.rival_density):
            names = [what for what in RIVALS if (what, block) not in rivals_done]
            rows += rival_rows(cell, names, device, config.rounds)
        if time.perf_counter() - saved > 10:
            save(config, rows, where, left)
            saved = time.perf_counter()
    return save(config, rows, where, left)


def save(config: KernelsConfig, rows: list[dict[str, Any]], where: dict[str, Any], left: int) -> Path:
    """Write all rows, the speedups, and what was not measured."""
    extra = speedups(rows)
    if where["driver"] is None:
        extra += [{"metric": f"speedup of {operation}", "task": f"H200 d=4096 tokens=8192 b={block} density=0.1",
                   "value": None, "unit": "dense time / sparse time", "status": NOT_MEASURED}
                  for block in (64, 128) for operation in cost.OPERATIONS]  # fmt: skip
    details = {"machine": where, "cells_left": left, "quick": config.quick}
    return record(config.out.stem, [*rows, *extra], config.out.parent, details)


if __name__ == "__main__":
    command.main(benchmark, KernelsConfig)
