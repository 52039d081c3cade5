"""Is block-sparse training faster on a CPU? The three products of a layer, and a whole step, against dense torch.

    python -m procosm.benchmarks.sparse_cpu
    python -m procosm.benchmarks.sparse_cpu --model package.module:factory --out model.json

Dense and sparse take turns within a round and each ratio is taken within a round, so what else the machine does falls
on both. ``value`` is the median over rounds of dense time / sparse time, ``low`` and ``high`` the extremes.
"""

import importlib
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from procosm import sparse
from procosm.benchmarks.record import RESULTS, record
from procosm.sparse import cost, cpu, matrix

SEED = 0
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class SparseCpuConfig:
    """What to time, and how often."""

    out: Path = RESULTS / "sparse_cpu.json"
    """Where the result goes."""
    model: str = ""
    """package.module:factory to time a step of: factory(density) -> (model, batch), loss, metrics = model(batch)."""
    density: float = 0.1
    """Density of the size sweep and of --model."""
    widths: tuple[int, ...] = (512, 1024, 2048, 4096)
    """Layer sizes d: the weight is d x d."""
    blocks: tuple[int, ...] = (32, 64, 128)
    """Block sides."""
    densities: tuple[float, ...] = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
    """Densities of the crossover sweep."""
    crossover_width: int = 1024
    """Layer size of the crossover sweep."""
    tokens: int = 4096
    """Rows of x; halved for widths of 4096 and more."""
    rounds: int = 5
    """How often everything is timed."""
    threads: int = os.cpu_count() or 1
    """Threads of torch."""


def ratios(pairs: dict[str, tuple[Callable[[], Any], Callable[[], Any]]], rounds: int) -> dict[str, list[float]]:
    """Dense over sparse time of each (dense, sparse) pair and of "all" together, one entry a round."""
    for dense, fast in pairs.values():
        dense(), fast()
    found: dict[str, list[float]] = {name: [] for name in [*pairs, "all"]}
    for _ in range(rounds):
        times = {name: (seconds(dense), seconds(fast)) for name, (dense, fast) in pairs.items()}
        times["all"] = (sum(t[0] for t in times.values()), sum(t[1] for t in times.values()))
        for name, (dense, fast) in times.items():
            found[name].append(dense / fast)
    return found


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def row(metric: str, task: str, values: list[float], **extra: Any) -> dict[str, Any]:
    """One result: the median of the rounds and their extremes."""
    middle = {"value": round(statistics.median(values), 3), "low": round(min(values), 3), "high": round(max(values), 3)}
    return {"metric": metric, "task": task, "unit": "dense time / sparse time", "n": len(values), **middle, **extra}


def layer_rows(config: SparseCpuConfig, dtype: str, width: int, block: int, density: float) -> list[dict[str, Any]]:
    """The three products of one (width, width) layer, their sum, and what the cost model predicted."""
    kind, tokens = DTYPES[dtype], config.tokens // (2 if width >= 4096 else 1)
    generator = torch.Generator().manual_seed(SEED)
    w = matrix.random((width, width), block, density, generator, dtype=kind)
    x, grad = (torch.randn(tokens, width, generator=generator).to(kind) for _ in range(2))
    dense = matrix.to_dense(w)
    pairs = {
        "forward": (lambda: x @ dense.t(), lambda: cpu.forward(x, w.values, w.cols, w.row_ptr)),
        "data_gradient": (lambda: grad @ dense, lambda: cpu.data_gradient(grad, w.values, w.rows, w.perm, w.col_ptr)),
        "weight_gradient": (lambda: grad.t() @ x, lambda: cpu.weight_gradient(grad, x, w.rows, w.cols, w.row_ptr)),
    }
    timed = ratios(pairs, config.rounds)
    extra = {"dtype": dtype, "d": width, "block": block, "density": round(w.density, 4), "tokens": tokens, "seed": SEED}
    task = f"{dtype} d={width} b={block} density={w.density:.3g}"
    rows = [row(f"speedup of {name}", task, values, **extra) for name, values in timed.items()]
    choice = cost.choose((width, width), block, w.n, "cpu", kind.itemsize)
    predicted = choice.seconds_dense / choice.seconds_sparse
    return [
        *rows,
        row("predicted speedup of all", task, [predicted], chosen_sparse=choice.sparse(tokens), **extra),
    ]


def crossover_rows(config: SparseCpuConfig, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where the speedup passes 1: interpolated between measured densities, and as the cost model says."""
    found = []
    for dtype, kind in DTYPES.items():
        for block in config.blocks:
            wanted = {"metric": "speedup of all", "dtype": dtype, "block": block, "d": config.crossover_width}
            line = sorted((r["density"], r["value"]) for r in rows if wanted.items() <= r.items())
            density, speedup = np.array(sorted(set(line))).T
            # np.interp wants rising abscissae: the speedup falls as the density rises.
            measured = float(np.interp(0.0, -np.log(speedup), density))
            shape = (config.crossover_width,) * 2
            predicted = cost.crossover_density(shape, block, config.tokens, "cpu", kind.itemsize)
            shared = {"task": f"{dtype} d={shape[0]} b={block}", "unit": "density", "n": len(line), "seed": SEED}
            found.append({"metric": "crossover measured", "value": round(measured, 3), **shared})
            found.append({"metric": "crossover predicted", "value": round(predicted, 3), **shared})
    return found


def memory_rows(config: SparseCpuConfig) -> list[dict[str, Any]]:
    """Bytes of weights, gradients and Adam state of one layer, dense over sparse."""
    found = []
    for width in config.widths:
        for block in config.blocks:
            layer = sparse.nn.Linear(width, width, bias=False, block=block, density=config.density)
            ratio = sparse.memory_report(layer).ratio
            task = f"float32 d={width} b={block} density={layer.density:.3g}"
            found.append({"metric": "memory of weights, gradients and Adam", "task": task, "value": round(ratio, 2)})
            found[-1] |= {"unit": "dense bytes / sparse bytes", "n": 1, "seed": SEED}
    return found


def model_rows(config: SparseCpuConfig) -> list[dict[str, Any]]:
    """A training step (forward, backward, AdamW) of the factory's model, dense and at ``config.density``."""
    module, _, name = config.model.partition(":")
    factory = getattr(importlib.import_module(module), name)
    found = []
    for dtype in DTYPES:
        built, reports = [], []
        for density in (1.0, config.density):
            torch.manual_seed(SEED)
            model, batch = factory(density)
            optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
            built.append(step_of(model, batch, optimizer, DTYPES[dtype]))
            reports.append((model, optimizer))
        task = f"{config.model} {dtype} density={config.density:g}"
        found.append(row("speedup of a training step", task, ratios({"step": tuple(built)}, config.rounds)["step"]))
        sizes = [sparse.memory_report(*report).total[0] for report in reports]
        found.append({"metric": "memory of weights, gradients and AdamW", "task": task, "value": sizes[0] / sizes[1]})
        found[-1] |= {"unit": "dense bytes / sparse bytes", "n": 1, "seed": SEED}
    return found


def step_of(
    model: torch.nn.Module, batch: Any, optimizer: torch.optim.Optimizer, dtype: torch.dtype
) -> Callable[[], Tensor]:
    """One training step; bfloat16 by autocast."""

    def step() -> Tensor:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
            loss, _ = model(batch)
        loss.backward()
        optimizer.step()
        return loss

    return step


def benchmark(config: SparseCpuConfig) -> Path:
    """Time everything and write the result."""
    torch.set_num_threads(config.threads)
    if config.model:
        rows = model_rows(config)
    else:
        sizes = {(width, block, config.density) for width in config.widths for block in config.blocks}
        sweep = {(config.crossover_width, block, density) for block in config.blocks for density in config.densities}
        plan = [(dtype, *point) for dtype in DTYPES for point in sorted(sizes | sweep)]
        rows = [r for point in tqdm(plan, desc="layers") for r in layer_rows(config, *point)]
        rows += crossover_rows(config, rows) + memory_rows(config)
    for found in rows:
        found["threads"] = config.threads
        print(f"{found['metric']:40} {found['task']:44} {found['value']:8.3g} {found['unit']}")
    return record(config.out.stem, rows, config.out.parent)


if __name__ == "__main__":
    benchmark(tyro.cli(SparseCpuConfig))
