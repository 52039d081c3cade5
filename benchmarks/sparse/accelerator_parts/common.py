"""What every question about the accelerator starts from: the machine, the densities, the paper's claims."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from procosm.benchmarks.record import RESULTS
from procosm.sparse.accelerator import figures
from procosm.sparse.accelerator.files import write_bytes
from procosm.sparse.accelerator.machine import Machine, energy_table
from procosm.sparse.accelerator.mends import FAITHFUL, Mends
from procosm.sparse.accelerator.network import Densities, Result, cases, run_cases
from procosm.sparse.accelerator.search import QUICK
from procosm.sparse.accelerator.simulate import Setting
from procosm.sparse.accelerator.workloads import Workload
from procosm.world_model.settings import Count, Settings

PAPER = {"energy_ratio": 3.26, "speedup": 4.0}
"""Procrustes, MICRO 2020, abstract: up to 3.26 times less energy and up to 4 times the speed."""
FLOWS = ("CK", "CN", "KN", "PQ")
ACTIVATIONS, MINIBATCH = 0.5, 64

ASSUMPTIONS = [
    "weight budgets: 11.7x ResNet18 (DropBack's abstract), 10x MobileNetV2 (the authors' training configuration); 5.2x"
    " VGG-S, 3.9x DenseNet and 4.3x WRN-28-10 are as remembered from the paper, not checked against its text",
    "the same density in every layer; Bernoulli masks, seed 0 (the masks of the reference records)",
    f"activation density {ACTIVATIONS} in every layer of the weight update; per-layer files are unpublished",
    "the public Timeloop energy table; the paper's Accelergy 40 nm table is unpublished",
    f"minibatch {MINIBATCH}, 16x16 PEs, the authors' model with all its defects, no bandwidth limit",
    "strided layers at output resolution and without down-sampling convolutions, as in the authors' layer tables",
    "dense baseline: the same machine and search without masks; every case on its own best mapping",
]


@dataclass(frozen=True)
class AcceleratorBenchmark(Settings):
    """Which questions to ask."""

    records: Path | None = None
    """accelerator_reference.json, which the parts `reference` and `search` need."""
    parts: tuple[str, ...] | None = None
    """reference, search, speed, headline, trained, sensitivity, mends, dit; by default all that the files allow."""
    masks: Path = Path("runs/dropback_vgg/full/dropback-seed0")
    """The trained VGG-S that `python -m procosm.benchmarks.sparse.dropback_vgg --trials full` makes."""
    model: str = "procosm.world_model.diffusion.transformer:example"
    """The diffusion transformer of part `dit`: package.module:factory."""
    processes: Count = 2
    """Worker processes (the search is timed in this one)."""


def setting(width: int = 16, table: str = "public", mends: Mends = FAITHFUL) -> Setting:
    """A machine, an energy table and mends, by name."""
    built = Machine.scaled(width)
    return Setting(built, energy_table(table, built), mends)


def run(workload: Workload, weights: Any, config: AcceleratorBenchmark, **options: Any) -> list[Result]:
    """Results of one configuration; options: flow, setting, activations, minibatch, masks, effort, label."""
    flow, machine = options.get("flow", "KN"), options.get("setting", setting())
    densities = Densities(weights, options.get("activations", ACTIVATIONS))
    todo = cases(workload, densities, flow, machine, options.get("minibatch", MINIBATCH), options.get("masks"),
                 options.get("effort", QUICK))  # fmt: skip
    return run_cases(todo, config.processes, options.get("label", f"{workload.name} {flow}"))


def keep(figure: Any, name: str) -> None:
    """Write a figure to results/figures."""
    write_bytes(RESULTS / "figures" / f"{name}.png", figures.save(figure, name))
