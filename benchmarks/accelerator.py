"""The accelerator model against its references: exactness, search, the paper's headline and what moves it, a DiT.

    python -m procosm.benchmarks.accelerator --records accelerator_reference.json
    python -m procosm.benchmarks.accelerator --parts headline sensitivity dit

Every part writes benchmarks/results/accelerator_<part>.json. Nothing is fitted: the paper's 3.26x and 4x (Procrustes,
MICRO 2020, abstract) only stand beside the results.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from procosm.benchmarks.record import flatten, record
from procosm.sparse.accelerator import figures
from procosm.sparse.accelerator.command import QUICK
from procosm.sparse.accelerator.files import write_bytes
from procosm.sparse.accelerator.machine import TABLES, Machine, energy_table
from procosm.sparse.accelerator.masks import problem_mask
from procosm.sparse.accelerator.mends import CORRECTED, FAITHFUL, Mends
from procosm.sparse.accelerator.network import Densities, Result, Total, cases, run_cases
from procosm.sparse.accelerator.problem import PHASES, Layer
from procosm.sparse.accelerator.records import compare, evaluate_all, parse, read_records
from procosm.sparse.accelerator.search import Effort, Sparsity, search
from procosm.sparse.accelerator.simulate import Setting, simulate_dense, simulate_sparse
from procosm.sparse.accelerator.workloads import Workload, network, network_names
from procosm.sparse.accelerator.workloads.trace import from_factory

RESULTS = Path(__file__).parent / "results"
PAPER = {"energy_ratio": 3.26, "speedup": 4.0}
AUTHORS_SECONDS = 60.0  # the authors' mapper, per layer and phase (issue text; 300 victories on 32 threads)
FLOWS = ("CK", "CN", "KN", "PQ")
ACTIVATIONS, MINIBATCH = 0.5, 64


@dataclass(frozen=True)
class AcceleratorBenchmark:
    """Which parts to run."""

    records: Path | None = None
    """accelerator_reference.json; the parts `reference` and `search` need it."""
    parts: tuple[str, ...] = ("reference", "search", "headline", "sensitivity", "mends", "dit")
    """Parts, in the order given."""
    model: str = "procosm.world_model.diffusion.transformer:example"
    """The diffusion transformer of part `dit`: package.module:factory."""
    processes: int = 2
    """Worker processes (the search is timed in this one)."""


def machine(width: int = 16, table: str = "public", mends: Mends = FAITHFUL) -> Setting:
    """A setting by name."""
    built = Machine.scaled(width)
    return Setting(built, energy_table(table, built), mends)


def reference(config: AcceleratorBenchmark) -> dict[str, Any]:
    """Recompute every record on its stored mapping."""
    raw = read_records(config.records)
    start = time.perf_counter()
    summary = compare(raw, evaluate_all(raw, MINIBATCH, machine(), config.processes))
    return {"accesses_equal": summary.pop("records_with_equal_accesses"), **summary,
            "seconds": round(time.perf_counter() - start, 1)}  # fmt: skip


def search_quality(config: AcceleratorBenchmark) -> dict[str, Any]:
    """Search every record's case anew: energy-delay product against the stored mapping's, and time."""
    from tqdm import tqdm

    setting, raw = machine(), read_records(config.records)
    ratios, seconds, held = [], [], (None, None)
    for number, row in enumerate(tqdm(raw, desc="searches", unit="case")):
        record, flow = parse(row, number, MINIBATCH, setting), row["dataflow"]
        if record.sparse and held[0] != record.mask_key:
            held = (record.mask_key, problem_mask(record.problem, record.density))
        mask = held[1] if record.sparse else None
        sparsity = Sparsity(float(mask.mean()), mask) if mask is not None else None
        start = time.process_time()
        found = search(record.problem, flow, setting, sparsity)
        seconds.append(time.process_time() - start)
        mine, stored = (_edp(record.problem, mapping, mask, setting) for mapping in (found, record.mapping))
        ratios.append(mine / stored)
    milliseconds = 1000 * np.array(seconds)
    return {
        "cases": len(ratios), "worse_than_stored": int((np.array(ratios) > 1 + 1e-12).sum()),
        "worst_edp_ratio": max(ratios), "mean_edp_ratio": float(np.mean(ratios)), "best_edp_ratio": min(ratios),
        "milliseconds": {"median": float(np.median(milliseconds)), "p95": float(np.quantile(milliseconds, 0.95)),
                         "max": float(milliseconds.max()), "note": "CPU time, one thread"},
        "authors_seconds_per_case": AUTHORS_SECONDS,
        "times_faster_median": AUTHORS_SECONDS * 1000 / float(np.median(milliseconds)),
    }  # fmt: skip


def _edp(problem: Any, mapping: Any, mask: np.ndarray | None, setting: Setting) -> float:
    if mask is None:
        return simulate_dense(problem, mapping, setting).edp
    return simulate_sparse(problem, mapping, mask, setting)[0].edp


def _run(workload: Workload, weights: Any, config: AcceleratorBenchmark, **options: Any) -> list[Result]:
    """Results of one configuration; options: flow, setting, activations, minibatch, masks, effort."""
    flow, setting = options.get("flow", "KN"), options.get("setting", machine())
    densities = Densities(weights, options.get("activations", ACTIVATIONS))
    todo = cases(workload, densities, flow, setting, options.get("minibatch", MINIBATCH), options.get("masks"),
                 options.get("effort", QUICK))  # fmt: skip
    return run_cases(todo, config.processes, options.get("label", f"{workload.name} {flow}"))


def headline(config: AcceleratorBenchmark) -> dict[str, Any]:
    """The five networks at their published weight budgets: largest energy ratio and speedup, beside the paper's."""
    rows = []
    for name in network_names():
        workload = network(name)
        todo = [case for flow in FLOWS for case in
                cases(workload, Densities(1 / workload.weight_reduction, ACTIVATIONS), flow, machine(), MINIBATCH,
                      None, QUICK)]  # fmt: skip
        results = run_cases(todo, config.processes, name)
        for flow in FLOWS:
            total = Total.of([r for r in results if r.dataflow == flow])
            rows.append({"network": name, "weight_reduction": workload.weight_reduction, "dataflow": flow,
                         "energy_ratio": total.energy_ratio, "speedup": total.speedup,
                         "speedup_unbalanced": total.speedup_unbalanced})  # fmt: skip
    best = {key: max(rows, key=lambda row: row[key]) for key in PAPER}
    for row in rows:
        print(f"{row['network']:<12}{row['dataflow']}  energy {row['energy_ratio']:.2f}x  speed {row['speedup']:.2f}x"
              f"  (unbalanced {row['speedup_unbalanced']:.2f}x)")  # fmt: skip
    corrected = {}
    for key, paper in PAPER.items():
        row = best[key]
        work = network(row["network"])
        total = Total.of(_run(work, 1 / work.weight_reduction, config, flow=row["dataflow"],
                              setting=machine(mends=CORRECTED), label=f"{work.name} corrected"))  # fmt: skip
        corrected[key] = {"network": work.name, "dataflow": row["dataflow"], key: getattr(total, key)}
        print(f"largest {key}: {row[key]:.2f}x ({row['network']}, {row['dataflow']}; defects mended"
              f" {corrected[key][key]:.2f}x); the paper's abstract: {paper}x")  # fmt: skip
    return {"paper": PAPER, "maximum": best, "the_same_corrected": corrected, "assumptions": ASSUMPTIONS, "rows": rows}


ASSUMPTIONS = [
    "weight budgets 5.2x VGG-S, 3.9x DenseNet, 4.3x WRN-28-10 (not verified), 11.7x ResNet18, 10x MobileNetV2",
    "the same density in every layer; Bernoulli masks, seed 0 (the masks of the reference records)",
    f"activation density {ACTIVATIONS} in every layer of the weight update; per-layer files are unpublished",
    "the public Timeloop energy table; the paper's Accelergy 40 nm table is unpublished",
    f"minibatch {MINIBATCH}, 16x16 PEs, faithful model with all its defects, no bandwidth limit",
    "dense baseline: the same machine and search without masks; every case on its own best mapping",
]


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


def _masks(workload: Workload, draw: Callable[[Layer, np.random.Generator], np.ndarray]) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {layer.name: draw(layer, rng) for layer in workload.layers}


def _channel_skewed(density: float) -> Callable[[Layer, np.random.Generator], np.ndarray]:
    """Densities of output channels vary with a coefficient of variation of 0.5 (gamma): what Bernoulli masks lack."""

    def draw(layer: Layer, rng: np.random.Generator) -> np.ndarray:
        shape = (layer.rows, layer.columns, layer.channels, layer.filters)
        rates = np.clip(rng.gamma(4, density / 4, layer.filters), 0.01, 1)
        return rng.random(shape) < rates

    return draw


def _blocks(density: float, side: int) -> Callable[[Layer, np.random.Generator], np.ndarray]:
    """Whole blocks of input times output channels, all taps: what sparse.nn keeps."""

    def draw(layer: Layer, rng: np.random.Generator) -> np.ndarray:
        grid = [-(-layer.channels // side), -(-layer.filters // side)]
        kept = rng.random(grid) < density
        kept.flat[int(rng.integers(kept.size))] = True
        mask = np.kron(kept, np.ones((side, side), bool))[: layer.channels, : layer.filters]
        return np.broadcast_to(mask, (layer.rows, layer.columns, *mask.shape)).copy()

    return draw


def sensitivity(config: AcceleratorBenchmark) -> dict[str, Any]:
    """Change one assumption at a time around VGG-S, KN, and see what the energy ratio does."""
    work = network("vgg-s")
    density = 1 / work.weight_reduction
    variants: dict[str, dict[str, dict[str, Any]]] = {
        "energy table": {table: {"setting": machine(table=table)} for table in TABLES if table != "public"},
        "activation density": {f"{a:g}": {"activations": a} for a in (0.3, 0.4, 0.6, 1.0)},
        "weight budget": {"10x": {"weights": 0.1}, "3x": {"weights": 1 / 3}},
        "densities per layer": {"Erdos-Renyi, same total": {"weights": _erdos_renyi(work, density)}},
        "masks": {"channels skewed": {"masks": _masks(work, _channel_skewed(density))},
                  "blocks of 8": {"masks": _masks(work, _blocks(density, 8))},
                  "blocks of 16": {"masks": _masks(work, _blocks(density, 16))}},
        "minibatch": {str(n): {"minibatch": n} for n in (16, 32, 128)},
        "dataflow": {flow: {"flow": flow} for flow in FLOWS if flow != "KN"},
        "array": {"32x32": {"setting": machine(32)}},
        "defects mended": {name: {"setting": machine(mends=Mends.of(name))} for name in Mends.names()}
        | {"all": {"setting": machine(mends=CORRECTED)}},
    }  # fmt: skip
    base = Total.of(_run(work, density, config, label="base"))
    rows = []
    for group, options in variants.items():
        for name, changed in options.items():
            weights = changed.pop("weights", density)
            total = Total.of(_run(work, weights, config, label=f"{group}: {name}", **changed))
            rows.append({"assumption": group, "value": name, "energy_ratio": total.energy_ratio,
                         "speedup": total.speedup, "dense_energy": total.dense / base.dense,
                         "sparse_energy": total.balanced / base.balanced})  # fmt: skip
            change = total.energy_ratio - base.energy_ratio
            print(
                f"{group:<20} {name:<24} energy {total.energy_ratio:.2f}x ({change:+.2f})  speed {total.speedup:.2f}x"
            )
    picture = _sensitivity_figure(rows, base.energy_ratio)
    write_bytes(RESULTS / "figures" / "accelerator_sensitivity.png", figures.save(picture, "accelerator_sensitivity"))
    return {"base": {"network": "vgg-s", "dataflow": "KN", "energy_ratio": base.energy_ratio, "speedup": base.speedup},
            "paper": PAPER, "assumptions": ASSUMPTIONS, "rows": rows}  # fmt: skip


def _sensitivity_figure(rows: list[dict[str, Any]], base: float) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8.5, 0.235 * len(rows) + 1.1), dpi=150, layout="constrained")
    figure.suptitle(
        f"VGG-S, KN: energy ratio when one assumption changes (base {base:.2f}x)", fontsize=11, x=0.01, ha="left"
    )
    axes = figure.subplots()
    for position, row in enumerate(rows):
        value = row["energy_ratio"]
        colour = figures.COLOURS["GlobalBuffer"] if value >= base else figures.COLOURS["index"]
        axes.barh(position, value - base, left=base, height=0.7, color=colour)
        side, anchor = (3, "left") if value >= base else (-3, "right")
        axes.annotate(f"{value:.2f}", (value, position), xytext=(side, 0), textcoords="offset points", fontsize=7,
                      va="center", ha=anchor)  # fmt: skip
    axes.set_yticks(range(len(rows)), [f"{row['assumption']}: {row['value']}" for row in rows], fontsize=7)
    axes.invert_yaxis()
    axes.axvline(base, color="#333333", linewidth=0.8)
    axes.axvline(PAPER["energy_ratio"], color="#8c2f39", linewidth=1, linestyle="--")
    axes.annotate("paper 3.26x", (PAPER["energy_ratio"], 1.0), xycoords=("data", "axes fraction"), fontsize=8,
                  ha="center", va="bottom", color="#8c2f39")  # fmt: skip
    axes.set_xlabel("dense energy / sparse energy of a training step", fontsize=9)
    axes.margins(x=0.08, y=0.01)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _one_layer(name: str, layer: str) -> Workload:
    chosen = next(found for found in network(name).layers if found.name == layer)
    return Workload(f"{name} {layer}", (chosen,))


def mends(config: AcceleratorBenchmark) -> dict[str, Any]:
    """Each defect mended alone in layers where it can matter: odd channel counts, one PE, depthwise, a true stride."""
    stem = Workload("resnet18 stem at stride 2", (Layer("conv1", 224, 224, 3, 64, 7, 7, (3, 3), (2, 2)),))
    places = ((_one_layer("densenet", "Block1_2"), "CK"), (_one_layer("mobilenetv2", "FC"), "PQ"),
              (_one_layer("mobilenetv2", "Conv5_2"), "CN"), (stem, "CN"))  # fmt: skip
    rows = []
    for work, flow in places:
        variants = [(), *((name,) for name in Mends.names()), Mends.names()]
        todo = [
            case
            for names in variants
            for case in cases(
                work, Densities(0.1, ACTIVATIONS), flow, machine(mends=Mends.of(*names)), MINIBATCH, None, QUICK
            )
        ]
        results = run_cases(todo, config.processes, f"{work.name} {flow}")
        size = len(work.layers) * len(PHASES)
        totals = [Total.of(results[start : start + size]) for start in range(0, len(results), size)]
        for names, total in zip(variants, totals, strict=True):
            label = names[0] if len(names) == 1 else "all" if names else "faithful"
            rows.append({"network": work.name, "dataflow": flow, "mended": label, "energy_ratio": total.energy_ratio,
                         "speedup": total.speedup, "dense_energy": total.dense / totals[0].dense,
                         "sparse_energy": total.balanced / totals[0].balanced,
                         "dense_cycles": total.dense_cycles / totals[0].dense_cycles,
                         "sparse_cycles": total.balanced_cycles / totals[0].balanced_cycles})  # fmt: skip
            print(f"{work.name:<24}{flow}  {label:<18} energy {total.energy_ratio:.2f}x  speed {total.speedup:.2f}x")
    return {"weight_density": 0.1, "assumptions": ASSUMPTIONS[2:], "rows": rows}


def dit(config: AcceleratorBenchmark) -> dict[str, Any]:
    """The project's diffusion transformer: GELU leaves no zeros, so the weight update stays dense."""
    work = from_factory(config.model)
    measured = [layer.activation_density for layer in work.layers if layer.activation_density is not None]
    rows = []
    for density in (0.2, 0.1, 0.05):
        results = _run(work, density, config, activations=None, label=f"DiT at {density:g}", effort=Effort())
        phases = {phase: Total.of([r for r in results if r.phase == phase]) for phase in PHASES}
        total, gradient = Total.of(results), _sparse_gradient(results, density)
        rows.append({
            "density": density, "energy_ratio": total.energy_ratio, "speedup": total.speedup,
            "phases": {phase: {"energy_ratio": t.energy_ratio, "speedup": t.speedup,
                               "share_of_sparse_cycles": t.balanced_cycles / total.balanced_cycles,
                               "share_of_sparse_energy": t.balanced / total.balanced} for phase, t in phases.items()},
            "sparse_weight_gradient": gradient,
        })  # fmt: skip
        update = phases["wu"].balanced_cycles / total.balanced_cycles
        print(f"density {density:g}: energy {total.energy_ratio:.2f}x, speed {total.speedup:.2f}x; the weight update"
              f" takes {100 * update:.0f}% of the sparse cycles. With gradients of kept weights only: energy"
              f" {gradient['energy_ratio']:.2f}x, speed {gradient['speedup']:.2f}x")  # fmt: skip
    picture = _dit_figure(rows)
    write_bytes(RESULTS / "figures" / "accelerator_dit.png", figures.save(picture, "accelerator_dit"))
    return {"model": config.model, "layers": len(work.layers), "weights": work.weights, "macs_per_sample": work.macs,
            "smallest_measured_activation_density": min(measured), "bound_without_sparse_gradient": 3.0,
            "assumptions": [*ASSUMPTIONS[3:], "activation densities measured on the example inputs",
                            "sparse weight gradient: an estimate, see _sparse_gradient"], "rows": rows}  # fmt: skip


def _sparse_gradient(results: list[Result], density: float, probe_steps: int = 16) -> dict[str, float]:
    """If only kept weights' gradients were formed, and 1 in `probe_steps` of the others to score candidates.

    An estimate on the dense weight update's mapping: MACs, register traffic and cycles fall to the share of gradients
    formed (times the forward pass's waiting), the gradient's own DRAM and buffer traffic too, operands stay dense.
    """
    share = density + (1 - density) / probe_steps
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


def _dit_figure(rows: list[dict[str, Any]]) -> Any:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.4), dpi=150, layout="constrained")
    figure.suptitle("Diffusion transformer with GELU (activation density 1)", fontsize=11, x=0.01, ha="left")
    for axes, key, label in zip(
        figure.subplots(1, 2), ("speedup", "energy_ratio"), ("speedup", "energy ratio"), strict=True
    ):
        series = [("Procrustes: dense weight gradient", figures.DENSE, [row[key] for row in rows]),
                  ("gradients of kept weights, 1/16 probed", figures.BALANCED,
                   [row["sparse_weight_gradient"][key] for row in rows])]  # fmt: skip
        for offset, (name, colour, values) in zip((-0.2, 0.2), series, strict=True):
            bars = axes.bar(np.arange(len(rows)) + offset, values, 0.36, color=colour, label=name)
            axes.bar_label(bars, [f"{value:.2f}x" for value in values], fontsize=8, padding=2)
        if key == "speedup":
            axes.axhline(3, color="#333333", linewidth=1, linestyle="--", zorder=0, label="bound with a dense gradient")
        axes.set_xticks(range(len(rows)), [f"{row['density']:g}" for row in rows])
        axes.set_xlabel("weight density", fontsize=9)
        axes.set_ylabel(f"{label} over the dense machine", fontsize=9)
        axes.margins(y=0.12)
        figures.plain(axes)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, fontsize=8, frameon=False, ncols=3, loc="outside lower center")
    return figure


PARTS = {"reference": reference, "search": search_quality, "headline": headline, "sensitivity": sensitivity,
         "mends": mends, "dit": dit}  # fmt: skip


def main(config: AcceleratorBenchmark) -> None:
    """Run the parts and write their results."""
    for name in config.parts:
        if name not in PARTS:
            raise SystemExit(f"part {name!r} is unknown; choose among {', '.join(PARTS)}")
        if name in ("reference", "search") and config.records is None:
            raise SystemExit(f"part {name} needs --records accelerator_reference.json")
    for name in config.parts:
        start = time.perf_counter()
        found = PARTS[name](config)
        found |= {"wall_seconds": round(time.perf_counter() - start, 1)}
        record(f"accelerator_{name}", flatten(found, name), details=found)
        short = {key: value for key, value in found.items() if not isinstance(value, (list, dict))}
        print(f"{name}: {json.dumps(short)}")
        for sentence in found.get("assumptions", ()):
            print(f"  assumes {sentence}")


if __name__ == "__main__":
    main(tyro.cli(AcceleratorBenchmark))
