"""Which assumption carries the energy ratio? VGG-S on KN, one assumption changed at a time."""

import itertools
from collections.abc import Iterator
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
    setting,
)
from procosm.benchmarks.sparse.accelerator_parts.trained import TRAINED, load, variants
from procosm.sparse.accelerator import figures
from procosm.sparse.accelerator.machine import TABLES
from procosm.sparse.accelerator.mends import CORRECTED, Mends
from procosm.sparse.accelerator.network import Case, Densities, Total, cases, run_cases
from procosm.sparse.accelerator.search import QUICK
from procosm.sparse.accelerator.workloads import Workload, network


def sensitivity(config: AcceleratorBenchmark) -> dict[str, Any]:
    """Energy ratio and speedup of every variant, and the figure."""
    work = network("vgg-s")
    density = work.budget
    learnt, masks = load(config.masks)
    changes = [("base", "", {}), *_variants(work, density, learnt, masks)]
    todo = [_cases({"workload": work, "weights": density, **changed}) for _, _, changed in changes]
    results = iter(run_cases([case for one in todo for case in one], config.processes, "sensitivity"))
    base, *totals = [Total.of(itertools.islice(results, len(one))) for one in todo]
    rows = []
    for (group, name, _), total in zip(changes[1:], totals, strict=True):
        rows.append({"assumption": group, "variant": name, "energy_ratio": total.energy_ratio,
                     "speedup": total.speedup, "speedup_unbalanced": total.speedup_unbalanced,
                     "dense_energy": total.dense / base.dense,
                     "sparse_energy": total.balanced / base.balanced})  # fmt: skip
        change = total.energy_ratio - base.energy_ratio
        print(f"{group:<20} {name:<30} energy {total.energy_ratio:.2f}x ({change:+.2f})"
              f"  speed {total.speedup:.2f}x ({total.speedup - base.speedup:+.2f})")  # fmt: skip
    keep(_figure(rows, base), "accelerator_sensitivity")
    return {"base": {"network": "vgg-s", "dataflow": "KN", "energy_ratio": base.energy_ratio, "speedup": base.speedup},
            "paper": PAPER, "assumptions": [*ASSUMPTIONS, TRAINED], "rows": rows}  # fmt: skip


def _cases(options: dict[str, Any]) -> list[Case]:
    """Cases of one variant; options: workload, weights, flow, setting, activations, minibatch, masks."""
    densities = Densities(options["weights"], options.get("activations", ACTIVATIONS))
    return cases(options["workload"], densities, options.get("flow", "KN"), options.get("setting", setting()),
                 options.get("minibatch", MINIBATCH), options.get("masks"), QUICK)  # fmt: skip


def _variants(
    work: Workload, density: float, learnt: Workload, masks: dict[str, np.ndarray]
) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Assumption, variant, and what it changes."""
    groups: dict[str, dict[str, dict[str, Any]]] = {
        "energy table": {table: {"setting": setting(table=table)} for table in TABLES if table != "public"},
        "activation density": {f"{a:g}": {"activations": a} for a in (0.3, 0.4, 0.6, 1.0)},
        "weight budget": {"10x": {"weights": 0.1}, "3x": {"weights": 1 / 3}},
        "trained on digits": variants(learnt, masks),
        "other masks": {"Erdos-Renyi densities": {"weights": _erdos_renyi(work, density)},
                        "blocks of 8": {"masks": _blocks(work, density, 8)},
                        "blocks of 16": {"masks": _blocks(work, density, 16)}},
        "minibatch": {str(n): {"minibatch": n} for n in (16, 32, 128)},
        "dataflow": {flow: {"flow": flow} for flow in FLOWS if flow != "KN"},
        "array": {"32x32": {"setting": setting(32)}},
        "defect mended": {name: {"setting": setting(mends=Mends.of(name))} for name in Mends.names()}
        | {"all": {"setting": setting(mends=CORRECTED)}},
    }  # fmt: skip
    for group, found in groups.items():
        yield from ((group, name, changed) for name, changed in found.items())


def _erdos_renyi(workload: Workload, density: float) -> dict[str, float]:
    """Per-layer densities proportional to (R+S+C+K)/(RSCK), capped at 1, with the same number of weights kept."""
    parts = ((x, x.rows + x.columns + x.channels + (x.filters or 1)) for x in workload.layers)
    score = {layer.name: size / layer.weights for layer, size in parts}
    low, high = 0.0, 1e9
    for _ in range(100):
        scale = (low + high) / 2
        kept = sum(min(1.0, scale * score[layer.name]) * layer.weights for layer in workload.layers)
        low, high = (scale, high) if kept < density * workload.weights else (low, scale)
    return {name: min(1.0, low * value) for name, value in score.items()}


def _blocks(workload: Workload, density: float, side: int) -> dict[str, np.ndarray]:
    """Whole blocks of input times output channels, all taps, drawn at random: what sparse.nn can keep."""
    rng, masks = np.random.default_rng(0), {}
    for layer in workload.layers:
        assert layer.filters is not None  # VGG-S has no depthwise layer
        kept = rng.random([-(-layer.channels // side), -(-layer.filters // side)]) < density
        kept.flat[int(rng.integers(kept.size))] = True
        plane = np.kron(kept, np.ones((side, side), bool))[: layer.channels, : layer.filters]
        masks[layer.name] = np.broadcast_to(plane, (layer.rows, layer.columns, *plane.shape)).copy()
    return masks


def _figure(rows: list[dict[str, Any]], base: Total) -> Any:
    """Bars from the base, one group of variants under another; defects that change nothing share a line."""
    from matplotlib.figure import Figure

    still = [
        r for r in rows if r["assumption"] == "defect mended" and abs(r["energy_ratio"] - base.energy_ratio) < 0.005
    ]
    shown = [r for r in rows if r not in still]
    groups = list(dict.fromkeys(row["assumption"] for row in shown))
    figure = Figure(figsize=(8.5, 0.21 * (len(shown) + 0.7 * len(groups)) + 1.2), dpi=150, layout="constrained")
    figure.suptitle(f"VGG-S, dataflow KN: the energy ratio when one assumption changes (base {base.energy_ratio:.2f}x)",
                    fontsize=11, x=0.01, ha="left")  # fmt: skip
    axes, position, ticks, labels = figure.subplots(), 0.0, [], []
    for group in groups:
        for row in (row for row in shown if row["assumption"] == group):
            value = row["energy_ratio"]
            colour = figures.COLOURS["GlobalBuffer"] if value >= base.energy_ratio else figures.COLOURS["index"]
            axes.barh(position, value - base.energy_ratio, left=base.energy_ratio, height=0.75, color=colour)
            side, anchor = (3, "left") if value >= base.energy_ratio else (-3, "right")
            axes.annotate(f"{value:.2f}", (value, position), xytext=(side, 0), textcoords="offset points", fontsize=7,
                          va="center", ha=anchor)  # fmt: skip
            ticks.append(position)
            labels.append(f"{group}: {row['variant']}".replace("_", " "))
            position += 1
        position += 0.7
    axes.set_yticks(ticks, labels, fontsize=7.5)
    axes.invert_yaxis()
    axes.axvline(base.energy_ratio, color="#333333", linewidth=0.8)
    axes.axvline(PAPER["energy_ratio"], color="#8c2f39", linewidth=1, linestyle="--")
    axes.annotate("paper 3.26x", (PAPER["energy_ratio"], 1.0), xycoords=("data", "axes fraction"), fontsize=8,
                  ha="center", va="bottom", color="#8c2f39")  # fmt: skip
    axes.set_xlabel("dense over sparse energy of a training step\n"
                    f"{len(still)} more defects, each mended alone, move it by < 0.005", fontsize=8.5)  # fmt: skip
    axes.margins(x=0.1, y=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="x", labelsize=9)
    return figure
