"""How sparse may a world model be? Held-out picture quality and policy return at equal steps, by method and density.

    python -m procosm.benchmarks.sparse.quality

Dynamics, on one dense tokenizer, and tokenizers are trained in blocks of 16 and for much shorter than `procosm train`
does (Protocol): they compare, they do not shine. A road is a whole `procosm run`, which goes on with what
OUT/TASK/roads/DENSITY-SEED holds.
Every (task, part, method, density, seed) is a cell on disk; killed at any moment, the same command goes on. The result
is written after every cell and names the cells that are missing.
"""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import matplotlib
import torch
from tqdm import tqdm

from procosm.agents.judge.stats import t_interval
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.benchmarks.sparse.cells import LENGTHS, ROADS, Cell, Protocol, settle
from procosm.world_model import command
from procosm.world_model.files import read_json
from procosm.world_model.settings import Count
from procosm.world_model.training.stage import StageConfig

DENSITIES = (0.1, 0.5, 0.25, 0.05)
BASELINES = ("rigl", "set", "static")
WITHIN_DB = 0.2
UNITS = {"return": "return"}
TITLES = {"dynamics": "{} ahead", "tokenizer": "tokenizer"}  # of the figure's panels, by part


@dataclass(frozen=True)
class SparseQualityConfig(OnDevice):
    """What to train, and where."""

    out: Path = Path("runs/bench/sparse_quality")
    """Folder of data and cells; the same command goes on with what is there."""
    result: Path = RESULTS / "sparse_quality.json"
    """Where the result goes; the figure beside it."""
    tasks: tuple[str, ...] = tuple(ROADS)
    """Tasks; whole runs are made of those in ROADS."""
    seeds: Count = 3
    """Seeds of each cell."""
    quick: bool = False
    """Two optimizer steps a stage, one seed, one density: does it run?"""
    only_record: bool = False
    """Train nothing; write the result from the cells that exist."""


def plan(config: SparseQualityConfig) -> Iterator[Cell]:
    """All cells, those that tell most first: each task's dynamics at .1 and the curve, the other methods' curves, whole
    runs and their lengths, tokenizers.
    """
    seeds, densities = (range(1), DENSITIES[:1]) if config.quick else (range(config.seeds), DENSITIES)

    def cells(task: str, part: str, method: str, density: float) -> Iterator[Cell]:
        return (Cell(task, part, method, density, seed) for seed in seeds)

    for task in config.tasks:
        for method, density in (("dense", 1.0), ("procrustes", 0.1), *((method, 0.1) for method in BASELINES)):
            yield from cells(task, "dynamics", method, density)
        for density in densities:
            yield from cells(task, "dynamics", "procrustes", density)
    for task, density, method in product(config.tasks, densities, BASELINES):
        yield from cells(task, "dynamics", method, density)
    for task in () if config.quick else (task for task in config.tasks if task in ROADS):
        for at in (("dense", 1.0), *(("procrustes", density) for density in ROADS[task].densities)):
            yield from cells(task, "road", *at)
        if task == "HalfCheetah":  # where few weights lose most: does more training bring it back?
            for part, at in product(LENGTHS, (("dense", 1.0), ("procrustes", 0.1))):
                yield Cell(task, part, *at, 0)
    for task in config.tasks:  # one seed: they stay dense unless asked
        yield from (Cell(task, "tokenizer", *at, 0) for at in (("dense", 1.0), ("procrustes", 0.1)))


def rows_of(cells: dict[Cell, dict[str, float]]) -> list[dict[str, Any]]:
    """One row per cell and metric, and over the seeds the mean and its paired difference from dense with intervals."""
    rows: list[dict[str, Any]] = []
    groups: dict[tuple[str, str, str, float, str], dict[int, float]] = {}
    for cell, found in cells.items():
        for metric, value in found.items():
            rows.append({"metric": metric, **cell._asdict(), "value": value, "unit": UNITS.get(metric, "dB")})
            groups.setdefault((*cell[:4], metric), {})[cell.seed] = value
    for (task, part, method, density, metric), values in groups.items():
        place = {"task": task, "part": part, "method": method, "density": density, "unit": UNITS.get(metric, "dB")}
        rows.append({"metric": f"{metric} mean", **place, **t_interval(list(values.values()))})
        dense = groups.get((task, part, "dense", 1.0, metric), {})
        pairs = [values[seed] - dense[seed] for seed in sorted(values.keys() & dense.keys())]
        if method != "dense" and pairs:
            rows.append({"metric": f"{metric} minus dense", **place, **t_interval(pairs)})
    return rows


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """PSNR over density with intervals: dreams by task and horizon, tokenizers; the band is dense +- 0.2 dB."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    means = [r for r in rows if r["part"] in TITLES and r["metric"].startswith("psnr") and r["metric"].endswith("mean")]
    drawn = [row for row in means if row["method"] != "dense"] or means
    panels = sorted({(row["part"], row["task"], row["metric"]) for row in drawn})
    if not panels:
        return
    across = len(panels) if len(panels) < 3 else 2
    down = -(-len(panels) // across)
    figure, grid = pyplot.subplots(down, across, figsize=(5 * across, 3.6 * down), squeeze=False)
    for axes, (part, task, metric) in zip(grid.flat, panels, strict=False):
        panel = [row for row in means if (row["part"], row["task"], row["metric"]) == (part, task, metric)]
        for row in (row for row in panel if row["method"] == "dense"):
            axes.axhline(row["value"], color="black", linestyle="--", linewidth=1, label="dense")
            axes.axhspan(row["value"] - WITHIN_DB, row["value"] + WITHIN_DB, color="black", alpha=0.1)
        for method in ("procrustes", *BASELINES):
            line = sorted((row for row in panel if row["method"] == method), key=lambda row: row["density"])
            error = [row.get("high", row["value"]) - row["value"] for row in line]
            x = [row["density"] for row in line]
            axes.errorbar(x, [row["value"] for row in line], error, marker="o", capsize=3, label=method)
        title = f"{task}, {TITLES[part].format(metric.split('_')[1])}"
        axes.set(xscale="log", xlabel=f"density of the {part}", ylabel="PSNR, dB", title=title)
        axes.set_xticks([0.05, 0.1, 0.25, 0.5], ["0.05", "0.1", "0.25", "0.5"])
        axes.minorticks_off()
    for axes in grid.flat[len(panels) :]:
        axes.set_axis_off()
    grid[0, 0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main(config: SparseQualityConfig) -> Path:
    """Train what is missing, in order of interest; write the result after every cell."""
    protocol, cells = Protocol(), list(dict.fromkeys(plan(config)))
    if config.quick:
        short = StageConfig(2, 2, 1e-3)
        protocol = Protocol(300, short, short, windows=4)
    missing = [cell for cell in cells if not path_of(config, cell).exists()]
    if not config.only_record:
        for cell in tqdm(missing, desc="cells", unit="cell", initial=len(cells) - len(missing), total=len(cells)):
            tqdm.write(f"{cell.task} {cell.name}", file=sys.stderr)
            settle(cell, config.out, protocol, config.device)
            write(config, cells, protocol)
    return write(config, cells, protocol)


def path_of(config: SparseQualityConfig, cell: Cell) -> Path:
    """Where ``settle`` leaves the numbers of a cell."""
    return config.out / cell.task / "cells" / f"{cell.name}.json"


def write(config: SparseQualityConfig, cells: list[Cell], protocol: Protocol) -> Path:
    """The result from the cells that exist."""
    there = {cell: read_json(path_of(config, cell)) for cell in cells if path_of(config, cell).exists()}
    missing = [f"{cell.task} {cell.name}" for cell in cells if cell not in there]
    rows = rows_of(there)
    draw(rows, config.result.with_suffix(".png"))
    roads = "roads/*/world_model/provenance.json"
    origins = [path for task in config.tasks for path in sorted((config.out / task).glob(roads))]
    details = {
        "protocol": asdict(protocol),
        "missing": missing,
        "commits_of_roads": {"/".join(p.parts[-5:-2:2]): read_json(p).get("commit") for p in origins},
    }
    return record(config.result.stem, rows, config.result.parent, details)


if __name__ == "__main__":
    torch.set_num_threads(1)  # the cells were made with one thread; more change the last bits
    command.main(main, SparseQualityConfig)
