"""Results as text, JSON and CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from procosm.sparse.accelerator.mapping import Mapping
from procosm.sparse.accelerator.network import Result, Total
from procosm.sparse.accelerator.problem import PHASES
from procosm.sparse.accelerator.simulate import Outcome

PARTS = ("DRAM", "GlobalBuffer", "RegFile", "MAC", "index", "sort")
HEADS = ("DRAM", "buffer", "registers", "MACs", "index", "sorting")
MODES = ("dense", "unbalanced", "balanced")
PHASE_NAMES = {"fw": "forward", "bw": "backward", "wu": "weight update"}


def parts(results: Sequence[Result], mode: str) -> dict[str, float]:
    """Energy by component, summed over results."""
    return {part: sum(getattr(r, mode).parts[part] * r.repeats for r in results) for part in PARTS}


def by_phase(results: Sequence[Result]) -> dict[str, Total]:
    """Totals of each phase, then of all under "total"."""
    groups = {phase: [r for r in results if r.phase == phase] for phase in PHASES}
    return {phase: Total.of(rows) for phase, rows in groups.items() if rows} | {"total": Total.of(results)}


def scale(total: float) -> tuple[float, str]:
    """A power of 1000 that leaves a total between 10 and 10,000 (or as it is, when smaller), and its name."""
    power = max(0, 3 * math.floor(math.log10(max(total, 1.0) / 10) / 3))
    return 10.0**power, f"1e{power}"


def text(title: str, results: Sequence[Result], unit: str) -> str:
    """The printed table: energy and cycles of each phase, the ratios, and where the energy goes."""
    names = PHASE_NAMES | {"total": "training step"}
    rule = "─" * 86
    rows = by_phase(results)
    (energy, energies), (cycle, cycles) = scale(rows["total"].dense), scale(rows["total"].dense_cycles)
    lines = [title, rule,
             f"{'':<14}{f'energy, {energies} {unit}':^30}{f'cycles, {cycles}':^22}{'gain':^20}",
             f"{'':<14}{'dense':>14}{'sparse':>14}  {'dense':>11}{'sparse':>10}"
             f"  {'energy':>8}{'speed':>8}{'no bal.':>9}",
             rule]  # fmt: skip
    for phase, total in rows.items():
        if phase == "total":
            lines.append(rule)
        lines.append(
            f"{names[phase]:<14}{total.dense / energy:>14.2f}{total.balanced / energy:>14.2f}  "
            f"{total.dense_cycles / cycle:>11.2f}{total.balanced_cycles / cycle:>10.2f}  "
            f"{total.energy_ratio:>7.2f}x{total.speedup:>7.2f}x{total.speedup_unbalanced:>8.2f}x"
        )
    lines += [rule, f"{'energy goes to':<14}" + "".join(f"{name:>12}" for name in HEADS)]
    for mode, label in (("dense", "  dense"), ("balanced", "  sparse")):
        shares = parts(results, mode)
        whole = sum(shares.values())
        lines.append(f"{label:<14}" + "".join(f"{100 * share / whole:>11.1f}%" for share in shares.values()))
    before, after = (pooled_imbalance(results, index) for index in (0, 1))
    lines += [rule, f"waves last {before.mean():.2f}x their mean load unbalanced, {after.mean():.2f}x with half-tiles"
                    " ('no bal.' is the speed without balancing)"]  # fmt: skip
    return "\n".join(lines)


def pooled_imbalance(results: Sequence[Result], index: int) -> np.ndarray:
    """Fullest over mean load of the sampled waves of all layers: index 0 before, 1 after balancing."""
    return np.concatenate([result.imbalance[index] for result in results])


def _mapping(mapping: Mapping) -> dict[str, Any]:
    return {"spatial": mapping.spatial, "RF": mapping.rf, "GLB": mapping.glb, "DRAM": mapping.dram,
            "perm_GLB": mapping.glb_order, "perm_DRAM": mapping.dram_order}  # fmt: skip


def _outcome(outcome: Outcome) -> dict[str, Any]:
    return {"cycles": outcome.cycles, "energy": outcome.energy, "parts": outcome.parts,
            "tensor_energy": outcome.storage, "index_energy": outcome.index}  # fmt: skip


def layer_row(result: Result) -> dict[str, Any]:
    """One layer and phase for results.json; energies and cycles of one repeat."""
    before, after = result.imbalance
    return {
        "layer": result.layer, "phase": result.phase, "dataflow": result.dataflow, "macs": result.macs,
        "repeats": result.repeats, "density": result.density, "utilisation": result.utilisation,
        **{mode: _outcome(getattr(result, mode)) for mode in MODES},
        "imbalance": {"before": float(before.mean()), "after": float(after.mean())},
        "mapping": {"dense": _mapping(result.dense_mapping), "sparse": _mapping(result.sparse_mapping)},
        "seconds": result.seconds,
    }  # fmt: skip


def total_row(total: Total) -> dict[str, float]:
    """A total for results.json."""
    return vars(total) | {"energy_ratio": total.energy_ratio, "speedup": total.speedup,
                          "speedup_unbalanced": total.speedup_unbalanced}  # fmt: skip


def table_rows(results: Sequence[Result]) -> list[dict[str, Any]]:
    """results.csv: one line per layer, phase and machine variant, energies by component over all repeats."""
    return [
        {"layer": r.layer, "phase": r.phase, "dataflow": r.dataflow, "machine": mode, "macs": r.macs * r.repeats,
         "density": r.density, "cycles": getattr(r, mode).cycles * r.repeats,
         "energy": getattr(r, mode).energy * r.repeats,
         **{part: getattr(r, mode).parts[part] * r.repeats for part in PARTS}}
        for r in results for mode in MODES
    ]  # fmt: skip
