"""What real masks and activations do to VGG-S on KN: a network that DropBack trained, beside Bernoulli masks."""

from pathlib import Path
from typing import Any

import numpy as np

from procosm.benchmarks.sparse.accelerator_parts.common import ASSUMPTIONS, PAPER, AcceleratorBenchmark, run
from procosm.benchmarks.sparse.dropback_vgg import trained
from procosm.sparse.accelerator.masks import checkpoint_masks, match
from procosm.sparse.accelerator.network import Result, Total
from procosm.sparse.accelerator.problem import PHASES
from procosm.sparse.accelerator.report import pooled_imbalance
from procosm.sparse.accelerator.workloads import Workload, network
from procosm.sparse.accelerator.workloads.trace import trace

TRAINED = (
    "trained masks and activations: VGG-S after 200 steps of DropBack at 5.2x on scikit-learn's digits scaled to 28x28"
    " (benchmarks/sparse/dropback_vgg.py), not the paper's CIFAR-10 network; activations measured on 64 held-out digits"
)


def real_masks(config: AcceleratorBenchmark) -> dict[str, Any]:
    """Energy ratio, speedup and imbalance with the trained network's masks and activations, and its densities."""
    work = network("vgg-s")
    learnt, masks = load(config.masks)
    rows = []
    for name, changed in {"uniform density, Bernoulli masks": {}, **variants(learnt, masks)}.items():
        options = {"workload": work, "weights": work.budget, **changed}
        row = _row(name, run(options.pop("workload"), options.pop("weights"), config, label=name, **options))
        rows.append(row)
        print(f"{name:<34} energy {row['energy_ratio']:.2f}x  speed {row['speedup']:.2f}x  unbalanced"
              f" {row['speedup_unbalanced']:.2f}x  waves {row['imbalance_before']:.2f} -> {row['imbalance_after']:.2f}"
              " of their mean")  # fmt: skip
    layers = [{"layer": layer.name, "weight_density": float(masks[layer.name].mean()),
               "activation_density": layer.activation_density} for layer in learnt.layers]  # fmt: skip
    kept = sum(int(mask.sum()) for mask in masks.values())
    mac_density = sum(float(masks[x.name].mean()) * x.macs for x in learnt.layers) / learnt.macs
    shares = {"weights_kept": kept / learnt.weights, "macs_kept": mac_density}
    return {"network": "vgg-s", "dataflow": "KN", "paper": PAPER, **shares, "assumptions": [*ASSUMPTIONS, TRAINED],
            "rows": rows, "layers": layers}  # fmt: skip


def _row(name: str, results: list[Result]) -> dict[str, Any]:
    total = Total.of(results)
    weights = [r for r in results if r.phase != "wu"]
    before, after = (pooled_imbalance(weights, index) for index in (0, 1))
    phases = {phase: Total.of([r for r in results if r.phase == phase]) for phase in PHASES}
    return {"variant": name, "energy_ratio": total.energy_ratio, "speedup": total.speedup,
            "speedup_unbalanced": total.speedup_unbalanced, "imbalance_before": float(before.mean()),
            "imbalance_after": float(after.mean()),
            "phases": {phase: {"energy_ratio": t.energy_ratio, "speedup": t.speedup}
                       for phase, t in phases.items()}}  # fmt: skip


def load(folder: Path) -> tuple[Workload, dict[str, np.ndarray]]:
    """The trained network, its activation densities measured, and its masks [R, S, C, K] by layer."""
    if not (folder / "network.safetensors").is_file():
        command = "python -m procosm.benchmarks.sparse.dropback_vgg --trials full"
        raise SystemExit(f"trained masks are needed and {folder} holds none: `{command}`, or give --masks")
    work = trace(*trained(folder), "vgg-s")
    return work, match(work.layers, checkpoint_masks(folder))


def variants(learnt: Workload, masks: dict[str, np.ndarray]) -> dict[str, dict[str, Any]]:
    """What the trained network changes, one thing at a time and together."""
    return {
        "its densities, Bernoulli masks": {"weights": {name: float(mask.mean()) for name, mask in masks.items()}},
        "its masks": {"masks": masks},
        "its activations": {"workload": learnt, "activations": None},
        "its masks and activations": {"workload": learnt, "masks": masks, "activations": None},
    }
