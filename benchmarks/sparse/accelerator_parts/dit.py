"""The project's diffusion transformer on the machine: why the weight update limits it, and what would help."""

from typing import Any

import numpy as np

from procosm.benchmarks.sparse.accelerator_parts.common import ASSUMPTIONS, AcceleratorBenchmark, keep, run
from procosm.sparse.accelerator import figures
from procosm.sparse.accelerator.network import Result, Total
from procosm.sparse.accelerator.problem import PHASES
from procosm.sparse.accelerator.search import THOROUGH
from procosm.sparse.accelerator.workloads.trace import from_factory

DENSITIES = (0.2, 0.1, 0.05)
PROBED = 16
"""One in so many untracked weights' gradients would be formed to score candidates."""
BOUND = 3.0
"""Speedup of three equal phases of which one stays dense, the other two costing nothing."""


def dit(config: AcceleratorBenchmark) -> dict[str, Any]:
    """GELU leaves no zeros, so the weight update stays dense; then with gradients of the kept weights only."""
    work = from_factory(config.model)
    measured = [layer.activation_density for layer in work.layers if layer.activation_density is not None]
    rows = []
    for density in DENSITIES:
        results = run(work, density, config, activations=None, label=f"DiT at {density:g}", effort=THOROUGH)
        phases = {phase: Total.of([r for r in results if r.phase == phase]) for phase in PHASES}
        total, gradient = Total.of(results), _sparse_gradient(results, density)
        rows.append({
            "at": f"weight density {density:g}", "energy_ratio": total.energy_ratio, "speedup": total.speedup,
            "phases": {phase: {"energy_ratio": t.energy_ratio, "speedup": t.speedup,
                               "share_of_sparse_cycles": t.balanced_cycles / total.balanced_cycles,
                               "share_of_sparse_energy": t.balanced / total.balanced} for phase, t in phases.items()},
            "sparse_weight_gradient": gradient,
        })  # fmt: skip
        update = phases["wu"].balanced_cycles / total.balanced_cycles
        print(f"density {density:g}: energy {total.energy_ratio:.2f}x, speed {total.speedup:.2f}x; the weight update"
              f" takes {100 * update:.0f}% of the sparse cycles. With gradients of kept weights only: energy"
              f" {gradient['energy_ratio']:.2f}x, speed {gradient['speedup']:.2f}x")  # fmt: skip
    keep(_figure(rows), "accelerator_dit")
    return {"model": config.model, "layers": len(work.layers), "weights": work.weights, "macs_per_sample": work.macs,
            "smallest_measured_activation_density": min(measured), "bound_without_sparse_gradient": BOUND,
            "assumptions": [*ASSUMPTIONS[3:], "activation densities measured on the example inputs",
                            "sparse weight gradient: an estimate on the dense mapping"], "rows": rows}  # fmt: skip


def _sparse_gradient(results: list[Result], density: float) -> dict[str, float]:
    """If only kept weights' gradients were formed, and 1 in PROBED of the others to score candidates.

    An estimate on the dense weight update's mapping: MACs, register traffic and cycles fall to the share of gradients
    formed (times the forward pass's waiting), the gradient's own DRAM and buffer traffic too, operands stay dense.
    """
    share = density + (1 - density) / PROBED
    energy, cycles = 0.0, 0.0
    for result in results:
        if result.phase != "wu":
            energy += result.balanced.energy * result.repeats
            cycles += result.balanced.cycles * result.repeats
            continue
        outcome = result.dense
        operands = sum(outcome.storage[level][tensor] for level in (1, 2) for tensor in (0, 1))
        formed = outcome.mac + sum(outcome.storage[0]) + outcome.storage[1][2] + outcome.storage[2][2]
        energy += (operands + share * formed) * result.repeats
        waiting = next(r.imbalance[1].mean() for r in results if (r.layer, r.phase) == (result.layer, "fw"))
        cycles += outcome.cycles * min(1.0, share * waiting) * result.repeats
    total = Total.of(results)
    return {"gradients_formed": share, "energy_ratio": total.dense / energy, "speedup": total.dense_cycles / cycles}


def _figure(rows: list[dict[str, Any]]) -> Any:
    from matplotlib.figure import Figure

    picture = Figure(figsize=(10.5, 3.9), dpi=150, layout="constrained")
    picture.suptitle("Diffusion transformer: GELU leaves no zero activation, so the weight update stays dense",
                     fontsize=11, x=0.01, ha="left")  # fmt: skip
    time, speedup, energy = picture.subplots(1, 3)
    bottom = np.zeros(len(rows) + 1)
    colours = dict(zip(PHASES, ("#33456b", "#4f7cac", "#f0b45b"), strict=True))
    for phase, name in zip(PHASES, ("forward", "backward", "weight update"), strict=True):
        heights = [1 / 3] + [row["phases"][phase]["share_of_sparse_cycles"] / row["speedup"] for row in rows]
        bars = time.bar(range(len(heights)), heights, 0.62, bottom, color=colours[phase], label=name)
        if phase == "wu":
            time.bar_label(bars, [f"{h / (h + b):.0%}" for h, b in zip(heights, bottom, strict=True)],
                           label_type="center", fontsize=8)  # fmt: skip
        bottom = bottom + np.array(heights)
    time.set_xticks(range(len(rows) + 1), ["dense", *(f"{density:g}" for density in DENSITIES)])
    time.set_ylabel("cycles, dense step = 1", fontsize=9)
    time.legend(fontsize=8, frameon=False, loc="upper right")
    for axes, key, label in ((speedup, "speedup", "speedup over dense"), (energy, "energy_ratio", "energy ratio")):
        series = (("dense weight gradient (Procrustes)", figures.DENSE, [row[key] for row in rows]),
                  (f"gradients of kept weights, 1/{PROBED} probed", figures.BALANCED,
                   [row["sparse_weight_gradient"][key] for row in rows]))  # fmt: skip
        for offset, (name, colour, values) in zip((-0.2, 0.2), series, strict=True):
            bars = axes.bar(np.arange(len(rows)) + offset, values, 0.36, color=colour, label=name)
            axes.bar_label(bars, [f"{value:.1f}x" for value in values], fontsize=8, padding=2,
                           bbox={"boxstyle": "square,pad=0.05", "facecolor": "white", "linewidth": 0})  # fmt: skip
        axes.set_xticks(range(len(rows)), [f"{density:g}" for density in DENSITIES])
        axes.set_ylabel(label, fontsize=9)
        axes.margins(y=0.12)
    speedup.axhline(BOUND, color="#8c2f39", linewidth=1, linestyle="--", zorder=0.9,
                    label=f"{BOUND:g}x: the most with a dense weight gradient")  # fmt: skip
    for axes in (time, speedup, energy):
        axes.set_xlabel("weight density", fontsize=9)
        figures.plain(axes)
    handles, labels = speedup.get_legend_handles_labels()
    picture.legend(handles, labels, fontsize=8, frameon=False, ncols=3, loc="outside lower center")
    return picture
