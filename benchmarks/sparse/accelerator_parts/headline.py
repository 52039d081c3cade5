"""The paper's headline: the five networks at their weight budgets, the largest energy ratio and speedup found."""

from typing import Any

import numpy as np

from procosm.benchmarks.sparse.accelerator_parts.common import (
    ACTIVATIONS,
    ASSUMPTIONS,
    FLOWS,
    MINIBATCH,
    PAPER,
    AcceleratorBenchmark,
    keep,
    run,
    setting,
)
from procosm.sparse.accelerator import figures
from procosm.sparse.accelerator.mends import CORRECTED
from procosm.sparse.accelerator.network import Densities, Total, cases, run_cases
from procosm.sparse.accelerator.search import QUICK
from procosm.sparse.accelerator.workloads import network, network_names

COLOURS = dict(zip(FLOWS, ("#33456b", "#4f7cac", "#9bc1d9", "#f0b45b"), strict=True))


def headline(config: AcceleratorBenchmark) -> dict[str, Any]:
    """Every network on four dataflows beside the paper's two maxima; the two best again with the defects mended."""
    rows = [row for name in network_names() for row in _network(name, config)]
    best = {key: max(rows, key=lambda row: row[key]) for key in PAPER}
    corrected = {}
    for key, paper in PAPER.items():
        row = best[key]
        work = network(row["network"])
        total = Total.of(run(work, work.budget, config, flow=row["dataflow"],
                             setting=setting(mends=CORRECTED), label=f"{work.name} corrected"))  # fmt: skip
        corrected[key] = {"network": work.name, "dataflow": row["dataflow"], key: getattr(total, key)}
        print(f"largest {key}: {row[key]:.2f}x ({row['network']}, {row['dataflow']}; defects mended"
              f" {corrected[key][key]:.2f}x); the paper's abstract: {paper}x")  # fmt: skip
    keep(_figure(rows, corrected), "accelerator_headline")
    return {"paper": PAPER, "maximum": best, "the_same_corrected": corrected, "assumptions": ASSUMPTIONS, "rows": rows}


def _network(name: str, config: AcceleratorBenchmark) -> list[dict[str, Any]]:
    work = network(name)
    densities = Densities(work.budget, ACTIVATIONS)
    todo = [case for flow in FLOWS for case in cases(work, densities, flow, setting(), MINIBATCH, None, QUICK)]
    results = run_cases(todo, config.processes, name)
    rows = []
    for flow in FLOWS:
        total = Total.of([r for r in results if r.dataflow == flow])
        rows.append({"network": name, "weight_reduction": work.weight_reduction, "dataflow": flow,
                     "energy_ratio": total.energy_ratio, "speedup": total.speedup,
                     "speedup_unbalanced": total.speedup_unbalanced})  # fmt: skip
        print(f"{name:<12}{flow}  energy {total.energy_ratio:.2f}x  speed {total.speedup:.2f}x"
              f"  (unbalanced {total.speedup_unbalanced:.2f}x)")  # fmt: skip
    return rows


def _figure(rows: list[dict[str, Any]], corrected: dict[str, dict[str, Any]]) -> Any:
    from matplotlib.figure import Figure

    names = network_names()
    picture = Figure(figsize=(9, 5.6), dpi=150, layout="constrained")
    picture.suptitle("A training step on the Procrustes machine against the same machine without sparsity",
                     fontsize=11, x=0.01, ha="left")  # fmt: skip
    for axes, key, label in zip(picture.subplots(2, 1, sharex=True), PAPER, ("energy ratio", "speedup"), strict=True):
        for number, flow in enumerate(FLOWS):
            heights = [next(r[key] for r in rows if (r["network"], r["dataflow"]) == (name, flow)) for name in names]
            bars = axes.bar(np.arange(len(names)) + (number - 1.5) * 0.2, heights, 0.18, color=COLOURS[flow],
                            label=f"dataflow {flow}")  # fmt: skip
            axes.bar_label(bars, [f"{height:.1f}" for height in heights], fontsize=7.5, padding=1)
        axes.axhline(PAPER[key], color="#8c2f39", linewidth=1, linestyle="--", zorder=0.9)
        axes.annotate(f"paper: up to {PAPER[key]:g}x", (1, PAPER[key]), xycoords=("axes fraction", "data"),
                      xytext=(4, 0), textcoords="offset points", fontsize=8, va="center", color="#8c2f39")  # fmt: skip
        mended = corrected[key]
        place = names.index(mended["network"]) + (FLOWS.index(mended["dataflow"]) - 1.5) * 0.2
        axes.plot(place, mended[key], "D", color="#8c2f39", markersize=4, linestyle="",
                  label="the best one, the authors' defects mended")  # fmt: skip
        axes.annotate(f"{mended[key]:.1f}", (place, mended[key]), xytext=(0, 12), textcoords="offset points",
                      fontsize=7.5, ha="center", color="#8c2f39")  # fmt: skip
        axes.set_ylabel(f"{label}, x", fontsize=9)
        axes.set_ylim(0, 5)
        figures.plain(axes)
    budgets = {row["network"]: row["weight_reduction"] for row in rows}
    axes.set_xticks(range(len(names)), [f"{name}\n{budgets[name]:g}x fewer weights" for name in names])
    handles, labels = axes.get_legend_handles_labels()
    picture.legend(handles, labels, fontsize=8, frameon=False, ncols=5, loc="outside lower center")
    return picture
