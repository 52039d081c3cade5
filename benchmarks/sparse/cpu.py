"""Is block-sparse training faster on a CPU? The three products of a layer, and a whole step, against dense torch.

    python -m procosm.benchmarks.sparse.cpu

Dense and sparse take turns within a round and each ratio is taken within a round, so what else the machine does falls
on both. ``value`` is the median over rounds of dense time / sparse time, ``low`` and ``high`` the extremes. Where other
processes took more than a twentieth of the machine, a point is timed again; ``others`` says what was left of that.
Points that the result holds are not timed again: a run may be stopped and gone on with; delete the file to start anew.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from procosm import sparse
from procosm.benchmarks.record import RESULTS, record
from procosm.sparse import cost, cpu, matrix
from procosm.world_model import command
from procosm.world_model.diffusion.rehearsal import rehearse
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.files import read_json
from procosm.world_model.settings import Count, Settings, Share

SEED = 0
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
HEAD = 64  # width of an attention head
QUIET, ATTEMPTS = 0.05, 3


@dataclass(frozen=True)
class SparseCpuConfig(Settings):
    """What to time, and how often."""

    out: Path = RESULTS / "sparse_cpu.json"
    """Where the result goes, and what is gone on with."""
    density: Share = 0.1
    """Density where sizes are swept."""
    widths: tuple[Count, ...] = (512, 1024, 2048, 4096)
    """Sizes d: a layer's weight is d x d, a world model's transformer is d wide."""
    blocks: tuple[Count, ...] = (32, 64, 128)
    """Block sides."""
    densities: tuple[Share, ...] = (0.05, 0.1, 0.25, 0.5, 0.75, 1.0)
    """Densities where those are swept."""
    middle: Count = 1024
    """Size at which blocks and densities are swept."""
    tokens: Count = 4096
    """Rows of x, a quarter of it in a training step; halved for sizes of 4096 and more."""
    rounds: Count = 5
    """How often a layer is timed; a training step three fifths of it."""
    threads: Count = os.cpu_count() or 1
    """Threads of torch."""


class Point(NamedTuple):
    """What is timed: ``kind`` is layer (its three products) or step (of the dynamics, with AdamW)."""

    kind: str
    dtype: str
    d: int
    block: int
    density: float

    @property
    def task(self) -> str:
        return f"{self.kind} {self.dtype} d={self.d} b={self.block} density={self.density:g}"


Pairs = dict[str, tuple[Callable[[], Any], Callable[[], Any]]]


def plan(config: SparseCpuConfig) -> Iterator[Point]:
    """Layers by size, block and density, then steps by each of the three."""
    for dtype in DTYPES:
        sizes = {(d, b, config.density) for d in config.widths for b in config.blocks}
        sweep = {(config.middle, b, density) for b in config.blocks for density in config.densities}
        yield from (Point("layer", dtype, *at) for at in sorted(sizes | sweep))
    for dtype in DTYPES:
        middle = sorted(config.blocks)[len(config.blocks) // 2]
        sizes = {(d, middle, config.density) for d in config.widths}
        sweep = {(config.middle, b, config.density) for b in config.blocks}
        sweep |= {(config.middle, middle, density) for density in config.densities if density < 1}
        yield from (Point("step", dtype, *at) for at in sorted(sizes | sweep))


def ratios(pairs: Pairs, rounds: int) -> dict[str, list[float]]:
    """Dense over sparse time of each (dense, sparse) pair and of "all" together, one entry a round."""
    for dense, fast in pairs.values():
        dense(), fast()
    found: dict[str, list[float]] = {name: [] for name in [*pairs, "all"]}
    for _ in range(rounds):
        times = {name: (seconds(dense), seconds(fast)) for name, (dense, fast) in pairs.items()}
        times["all"] = (sum(t[0] for t in times.values()), sum(t[1] for t in times.values()))
        for name, (slow, quick) in times.items():
            found[name].append(slow / quick)
    return found


def seconds(call: Callable[[], Any]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def others() -> float:
    """CPU seconds that all processes but this one have taken; 0 where the system does not tell."""
    stat = Path("/proc/stat")
    if not stat.exists():
        return 0.0
    user, nice, system, _idle, _wait, *rest = (
        int(word) for word in stat.read_text(encoding="utf-8").split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + sum(rest)) / os.sysconf("SC_CLK_TCK") - time.process_time()


def undisturbed(pairs: Pairs, rounds: int) -> tuple[dict[str, list[float]], float]:
    """``ratios``, timed again where others disturbed them; and the share of the machine that others had after all."""
    best: tuple[dict[str, list[float]], float] | None = None
    for _ in range(ATTEMPTS):
        start, before = time.perf_counter(), others()
        found = ratios(pairs, rounds)
        share = max(others() - before, 0.0) / (time.perf_counter() - start) / (os.cpu_count() or 1)
        if best is None or share < best[1]:
            best = found, share
        if share <= QUIET:
            break
    assert best is not None
    return best


def row(metric: str, point: Point, values: list[float], **extra: Any) -> dict[str, Any]:
    """One result: the median of the rounds and their extremes."""
    middle = {"value": round(statistics.median(values), 3), "low": round(min(values), 3), "high": round(max(values), 3)}
    place = {"metric": metric, "task": point.task, "unit": "dense time / sparse time", "n": len(values), **middle}
    return {**place, **point._asdict(), "seed": SEED, **extra}


def layer_rows(config: SparseCpuConfig, point: Point) -> list[dict[str, Any]]:
    """The three products of one (d, d) layer, their sum, what the cost model predicted, and bytes in training."""
    kind, shape = DTYPES[point.dtype], (point.d, point.d)
    tokens = config.tokens // (2 if point.d >= 4096 else 1)
    generator = torch.Generator().manual_seed(SEED)
    w = matrix.random(shape, point.block, point.density, generator, dtype=kind)
    x, grad = (torch.randn(tokens, point.d, generator=generator).to(kind) for _ in range(2))
    dense = matrix.to_dense(w)
    pairs: Pairs = {
        "forward": (lambda: x @ dense.t(), lambda: cpu.forward(x, w.values, w.cols, w.row_ptr)),
        "data_gradient": (lambda: grad @ dense, lambda: cpu.data_gradient(grad, w.values, w.rows, w.perm, w.col_ptr)),
        "weight_gradient": (lambda: grad.t() @ x, lambda: cpu.weight_gradient(grad, x, w.rows, w.cols, w.row_ptr)),
    }
    timed, share = undisturbed(pairs, config.rounds)
    extra = {"kept": round(w.density, 4), "tokens": tokens, "others": round(share, 3)}
    rows = [row(f"speedup of {name}", point, values, **extra) for name, values in timed.items()]
    choice = cost.choose(shape, point.block, w.n, "cpu", kind.itemsize)
    predicted = choice.seconds_dense / choice.seconds_sparse
    rows.append(row("predicted speedup of all", point, [predicted], chosen_sparse=choice.sparse(tokens), **extra))
    layer = sparse.nn.Linear(*shape, bias=False, block=point.block, density=point.density)
    return [*rows, bytes_row("memory of weights, gradients and Adam", point, sparse.memory_report(layer).ratio)]


def step_rows(config: SparseCpuConfig, point: Point) -> list[dict[str, Any]]:
    """A training step of the dynamics (forward, backward, AdamW), dense and sparse; two layers, one from 2048 on."""
    wide = point.d >= 2048
    shape = TransformerConfig(width=point.d, layers=1 if wide else 2, heads=max(1, point.d // HEAD))
    windows = config.tokens // 64 // (2 if point.d >= 4096 else 1)  # of 16 tokens
    steps, reports = [], []
    for density in (1.0, point.density):
        torch.manual_seed(SEED)
        model, batch = rehearse(shape, density, point.block, windows)
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
        steps.append(step_of(model, batch, optimizer, DTYPES[point.dtype]))
        reports.append((model, optimizer))
    timed, share = undisturbed({"step": (steps[0], steps[1])}, max(1, config.rounds * 3 // 5))
    extra = {"layers": shape.layers, "tokens": 16 * windows, "others": round(share, 3)}
    sizes = [sparse.memory_report(*report).total[0] for report in reports]
    memory = bytes_row("memory of weights, gradients and AdamW", point, sizes[0] / sizes[1])
    return [row("speedup of a training step", point, timed["step"], **extra), memory]


def bytes_row(metric: str, point: Point, ratio: float) -> dict[str, Any]:
    """One ratio of bytes."""
    place = {"metric": metric, "task": point.task, "value": round(ratio, 3), "unit": "dense bytes / sparse bytes"}
    return {**place, "n": 1, **point._asdict(), "seed": SEED}


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


def crossover_rows(config: SparseCpuConfig, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Where the speedup passes 1: interpolated between measured densities, and as the cost model says."""
    found = []
    for dtype, kind in DTYPES.items():
        for block in config.blocks:
            wanted = {"metric": "speedup of all", "dtype": dtype, "block": block, "d": config.middle}
            line = sorted({(r["kept"], r["value"]) for r in rows if wanted.items() <= r.items()})
            if len(line) < 2:
                continue
            density, speedup = np.array(line).T
            # np.interp wants rising abscissae: the speedup falls as the density rises.
            measured = float(np.interp(0.0, -np.log(speedup), density))
            predicted = cost.crossover_density((config.middle,) * 2, block, config.tokens, "cpu", kind.itemsize)
            shared = {"task": f"{dtype} d={config.middle} b={block}", "unit": "density", "n": len(line), "seed": SEED}
            found.append({"metric": "crossover measured", "value": round(measured, 3), **shared})
            found.append({"metric": "crossover predicted", "value": round(predicted, 3), **shared})
    return found


def processor() -> dict[str, Any]:
    """What decides the speed of dense products: family and model of the processor, and instructions for bfloat16."""
    info = Path("/proc/cpuinfo")
    lines = (
        [line.split(":", 1) for line in info.read_text(encoding="utf-8").split("\n\n")[0].splitlines()]
        if info.exists()
        else []
    )
    said = {key.strip(): value.strip() for key, value in (line for line in lines if len(line) == 2)}
    has = {name: name in said.get("flags", "").split() for name in ("avx512_bf16", "amx_bf16")}
    return {key: said[key] for key in ("vendor_id", "cpu family", "model") if key in said} | has


def benchmark(config: SparseCpuConfig) -> Path:
    """Time what is missing and write the result after every point."""
    torch.set_num_threads(config.threads)
    details = {
        "processor": processor(),
        "threads": config.threads,
        "wait": os.environ.get("OMP_WAIT_POLICY", "default"),
    }
    rows: list[dict[str, Any]] = []
    if config.out.exists():
        held = read_json(config.out)
        same = held.get("details") == details
        rows = [r for r in held["rows"] if same and not r["metric"].startswith("crossover")]
    points = list(plan(config))
    done = {r["task"] for r in rows}
    for point in tqdm([point for point in points if point.task not in done], desc="points"):
        rows += {"layer": layer_rows, "step": step_rows}[point.kind](config, point)
        path = record(config.out.stem, rows + crossover_rows(config, rows), config.out.parent, details)
    path = record(config.out.stem, rows + crossover_rows(config, rows), config.out.parent, details)
    for found in read_json(path)["rows"]:
        print(f"{found['metric']:40} {found['task']:44} {found['value']:8.3g} {found['unit']}")
    return path


if __name__ == "__main__":
    command.main(benchmark, SparseCpuConfig)
