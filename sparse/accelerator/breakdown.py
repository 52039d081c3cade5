"""What an architect asks of a run, a figure a question: where dataflows spend energy, which phase takes the cycles, how
much of the array works, and how far from the ideal the gain is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from procosm.sparse.accelerator.figures import BALANCED, COLOURS, DENSE, LABELS, UNBALANCED, figure, plain
from procosm.sparse.accelerator.network import Result, Total
from procosm.sparse.accelerator.problem import PHASES
from procosm.sparse.accelerator.report import PHASE_NAMES, parts, scale

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SERIES = (("dense", DENSE), ("unbalanced", UNBALANCED), ("balanced", BALANCED))
NAMES = {"dense": "dense", "unbalanced": "sparse, unbalanced", "balanced": "sparse, half-tiles"}


def utilisation(results: Sequence[Result], mode: str, pes: int) -> float:
    """Share of the array's cycles in which a PE multiplies what is not zero (padding of the array counts as none)."""
    useful = sum(r.macs * r.repeats * (1.0 if mode == "dense" else r.density) for r in results)
    return useful / sum(getattr(r, mode).cycles * r.repeats * pes for r in results)


def ideal_cycles(results: Sequence[Result]) -> float:
    """Cycles that density alone would leave of the dense machine's, in every layer."""
    return sum(r.dense.cycles * r.repeats * r.density for r in results)


def energy_by_dataflow(flows: Mapping[str, Sequence[Result]], unit: str, title: str) -> Figure:
    """Stacked energy by component of every dataflow, dense and sparse."""
    drawn = figure(8.5, 4.2, title)
    axes = drawn.subplots()
    one, power = scale(max(Total.of(rows).dense for rows in flows.values()))
    for position, rows in enumerate(flows.values()):
        for offset, mode in ((-0.2, "dense"), (0.2, "balanced")):
            bottom = 0.0
            for part, value in parts(rows, mode).items():
                label = LABELS[part] if position == 0 and mode == "dense" else None
                axes.bar(position + offset, value / one, 0.36, bottom=bottom, color=COLOURS[part], label=label)
                bottom += value / one
        gain = f"{Total.of(rows).energy_ratio:.2f}x"
        axes.annotate(
            gain, (position + 0.2, bottom), xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8
        )
    axes.set_xticks(range(len(flows)), list(flows))
    axes.set_xlabel("dataflow (left dense, right sparse, with the energy it saves)", fontsize=9)
    axes.set_ylabel(f"energy per step, {power} {unit}", fontsize=9)
    plain(axes)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def cycles_by_phase(results: Sequence[Result], title: str) -> Figure:
    """Cycles of each phase, and what density alone would leave of them."""
    drawn = figure(8, 4, title)
    axes = drawn.subplots()
    one, power = scale(Total.of(results).dense_cycles)
    for position, phase in enumerate(PHASES):
        rows = [r for r in results if r.phase == phase]
        total = Total.of(rows)
        for index, (mode, colour) in enumerate(SERIES):
            height = getattr(total, f"{mode}_cycles") / one
            label = NAMES[mode] if position == 0 else None
            axes.bar(position + (index - 1) * 0.27, height, 0.25, color=colour, label=label)
        ideal = ideal_cycles(rows) / one
        label = "dense x density" if position == 0 else "_nolegend_"
        axes.hlines(ideal, position + 0.13, position + 0.42, color="black", linestyle="--", linewidth=1.2, label=label)
        axes.annotate(
            f"{total.speedup:.2f}x of {total.dense_cycles / one / ideal:.2f}x",
            (position + 0.15, total.balanced_cycles / one), xytext=(0, 5), textcoords="offset points", fontsize=8,
        )  # fmt: skip
    axes.set_xticks(range(len(PHASES)), [PHASE_NAMES[phase] for phase in PHASES])
    axes.set_ylabel(f"cycles per step, {power}", fontsize=9)
    axes.margins(y=0.1)
    plain(axes)
    axes.legend(fontsize=8, frameon=False, ncols=4, loc="lower left", bbox_to_anchor=(0, 1))
    return drawn


def working_share(flows: Mapping[str, Sequence[Result]], pes: int, title: str) -> Figure:
    """Utilisation by dataflow: what PEs lose that a mapping leaves idle or that wait for the fullest of their wave."""
    drawn = figure(8, 3.8, title)
    axes = drawn.subplots()
    for index, (mode, colour) in enumerate(SERIES):
        at = np.arange(len(flows)) + (index - 1) * 0.27
        heights = [100 * utilisation(rows, mode, pes) for rows in flows.values()]
        bars = axes.bar(at, heights, 0.25, color=colour, label=NAMES[mode])
        axes.bar_label(bars, fmt="{:.0f}", fontsize=7, padding=1)
    axes.set_xticks(range(len(flows)), list(flows))
    axes.set_xlabel("dataflow", fontsize=9)
    axes.set_ylabel("PE cycles that multiply non-zeros, %", fontsize=9)
    axes.set_ylim(0, 112)
    plain(axes)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return drawn


def gain_by_density(sweep: Mapping[float, Sequence[Result]], title: str) -> Figure:
    """What fewer weights gain, beside the ideal 1/density: of forward and backward passes, and of the whole step."""
    drawn = figure(8, 4, title)
    axes = drawn.subplots()
    by_density = dict(sorted(sweep.items()))
    x = np.array([1 / density for density in by_density])
    whole = [Total.of(rows) for rows in by_density.values()]
    passes = [Total.of([r for r in rows if r.phase != "wu"]) for rows in by_density.values()]
    axes.plot(x, x, color="black", linestyle="--", linewidth=1, label="ideal, 1/density")
    axes.plot(x, [t.speedup for t in passes], color=BALANCED, marker="o", label="cycles, forward and backward")
    axes.plot(x, [t.speedup for t in whole], color=BALANCED, marker="o", linestyle=":", label="cycles, whole step")
    axes.plot(
        x, [t.energy_ratio for t in passes], color=COLOURS["DRAM"], marker="s", label="energy, forward and backward"
    )
    axes.plot(x, [t.energy_ratio for t in whole], color=COLOURS["DRAM"], marker="s", linestyle=":",
              label="energy, whole step")  # fmt: skip
    axes.set(xscale="log", yscale="log")
    axes.set_xticks(x, [f"{density:g}" for density in by_density])
    axes.set_yticks(x, [f"{value:g}" for value in x])
    axes.minorticks_off()
    axes.set_xlabel("density of the weights (log scale)", fontsize=9)
    axes.set_ylabel("dense / sparse (log scale)", fontsize=9)
    plain(axes)
    axes.legend(fontsize=8, frameon=False)
    return drawn
