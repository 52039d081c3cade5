"""Figures of a run (more in breakdown); each function returns a matplotlib Figure that the caller saves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from procosm.sparse.accelerator.network import Result, Total
from procosm.sparse.accelerator.problem import PHASES
from procosm.sparse.accelerator.report import PHASE_NAMES, parts, pooled_imbalance, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = {"DRAM": "#33456b", "GlobalBuffer": "#4f7cac", "RegFile": "#9bc1d9", "MAC": "#f0b45b", "index": "#d9603b",
           "sort": "#8c2f39"}  # fmt: skip
LABELS = {"DRAM": "DRAM", "GlobalBuffer": "global buffer", "RegFile": "register files", "MAC": "MACs",
          "index": "masks, pointers", "sort": "sorting"}  # fmt: skip
DENSE, UNBALANCED, BALANCED = "#8a93a6", "#9bc1d9", "#d9603b"


def figure(width: float, height: float, title: str) -> Figure:
    """An empty figure of so many inches, its title at the left."""
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), dpi=150, layout="constrained")
    made.suptitle(title, fontsize=11, x=0.01, ha="left")
    return made


def plain(axes: Axes) -> None:
    """Two spines and a light horizontal grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#e3e6ec", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9)


def energy(results: Sequence[Result], unit: str, title: str) -> Figure:
    """Stacked energy by component: dense and sparse machine side by side in every phase."""
    drawn = figure(8, 4.2, title)
    axes = drawn.subplots()
    one, power = scale(Total.of(results).dense)
    for position, phase in enumerate(PHASES):
        rows = [r for r in results if r.phase == phase]
        for offset, mode in ((-0.2, "dense"), (0.2, "balanced")):
            bottom = 0.0
            for part, value in parts(rows, mode).items():
                label = LABELS[part] if position == 0 and mode == "dense" else None
                axes.bar(position + offset, value / one, 0.36, bottom=bottom / one, color=COLOURS[part], label=label)
                bottom += value
            ratio = "" if mode == "dense" else f"\n{Total.of(rows).energy_ratio:.2f}x less"
            axes.annotate(f"{'dense' if mode == 'dense' else 'sparse'}{ratio}", (position + offset, bottom / one),
                          xytext=(0, 3), textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
    axes.set_xticks(range(len(PHASES)), [PHASE_NAMES[phase] for phase in PHASES])
    axes.set_ylabel(f"energy per step, {power} {unit}", fontsize=9)
    axes.margins(y=0.14)
    plain(axes)
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def dataflows(totals: Mapping[str, Total], chosen: str, title: str) -> Figure:
    """Cycles of every dataflow: dense, sparse without and with balancing, speedup written above."""
    drawn = figure(8, 4, title)
    axes = drawn.subplots()
    series = (("dense", "dense_cycles", DENSE), ("sparse, unbalanced", "unbalanced_cycles", UNBALANCED),
              ("sparse, half-tiles", "balanced_cycles", BALANCED))  # fmt: skip
    positions = np.arange(len(totals))
    one, power = scale(max(total.dense_cycles for total in totals.values()))
    for index, (label, field, colour) in enumerate(series):
        heights = [getattr(total, field) / one for total in totals.values()]
        axes.bar(positions + (index - 1) * 0.27, heights, 0.25, color=colour, label=label)
    for position, total in zip(positions, totals.values(), strict=True):
        axes.annotate(f"{total.speedup:.2f}x faster", (position, total.dense_cycles / one), xytext=(0, 3),
                      textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
    heights = [total.dense_cycles for total in totals.values()]
    wide = max(heights) > 6 * min(heights)
    if wide:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xticks(positions, [f"{flow}\n(chosen)" if flow == chosen else flow for flow in totals])
    axes.set_ylabel(f"cycles per step, {power}{' (log scale)' if wide else ''}", fontsize=9)
    axes.margins(y=0.1)
    plain(axes)
    axes.legend(fontsize=8, frameon=False, ncols=3, loc="lower left", bbox_to_anchor=(0, 1))
    return drawn


def imbalance(results: Sequence[Result], title: str) -> Figure:
    """Histogram of the fullest over the mean load per wave, before and after, for weights and for activations."""
    drawn = figure(8, 3.6, title)
    panels = drawn.subplots(1, 2, sharey=True)
    groups = (("weights (forward, backward)", ("fw", "bw")), ("activations (weight update)", ("wu",)))
    for axes, (label, phases) in zip(panels, groups, strict=True):
        rows = [r for r in results if r.phase in phases]
        top = max(1.2, float(np.quantile(pooled_imbalance(rows, 0), 0.995)))
        bins = np.linspace(1, top, 40)
        for index, name, colour in ((0, "unbalanced", UNBALANCED), (1, "half-tiles", BALANCED)):
            values = np.minimum(pooled_imbalance(rows, index), top)
            axes.hist(values, bins, weights=np.full(len(values), 100 / len(values)), color=colour, alpha=0.75,
                      label=f"{name}, mean {values.mean():.2f}")  # fmt: skip
        axes.set_title(label, fontsize=9)
        axes.set_xlabel("fullest PE over mean PE in a wave (last bar: and beyond)", fontsize=9)
        plain(axes)
        axes.legend(fontsize=8, frameon=False)
    panels[0].set_ylabel("share of waves, %", fontsize=9)
    return drawn


def array_sizes(totals: Mapping[int, Total], unit: str, title: str) -> Figure:
    """16x16 against 32x32 PEs: cycles and energy, dense and sparse."""
    drawn = figure(8, 3.6, title)
    left, right = drawn.subplots(1, 2)
    (cycle, cycles), (energy, energies) = (scale(max(getattr(total, field) for total in totals.values()))
                                           for field in ("dense_cycles", "dense"))  # fmt: skip
    panels = ((left, "dense_cycles", "balanced_cycles", cycle, f"cycles per step, {cycles}"),
              (right, "dense", "balanced", energy, f"energy per step, {energies} {unit}"))  # fmt: skip
    for axes, dense, sparse, one, label in panels:
        for position, total in enumerate(totals.values()):
            for offset, field, colour, name in ((-0.2, dense, DENSE, "dense"), (0.2, sparse, BALANCED, "sparse")):
                axes.bar(position + offset, getattr(total, field) / one, 0.36, color=colour,
                         label=name if position == 0 else None)  # fmt: skip
            gain = getattr(total, dense) / getattr(total, sparse)
            axes.annotate(f"{gain:.2f}x", (position + 0.2, getattr(total, sparse) / one), xytext=(0, 2),
                          textcoords="offset points", ha="center", fontsize=8)  # fmt: skip
        axes.set_xticks(range(len(totals)), [f"{side}x{side} PEs" for side in totals])
        axes.set_ylabel(label, fontsize=9)
        axes.margins(x=0.08)
        plain(axes)
    right.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
    return drawn


def save(figure: Figure, path: str) -> bytes:
    """The figure as PNG bytes; `path` names it in the file's metadata."""
    import io

    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Title": path})
    return stream.getvalue()
