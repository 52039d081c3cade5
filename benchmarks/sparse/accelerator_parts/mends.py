"""Which of the authors' model's defects matter where."""

from typing import Any

from procosm.benchmarks.sparse.accelerator_parts.common import (
    ACTIVATIONS,
    ASSUMPTIONS,
    MINIBATCH,
    AcceleratorBenchmark,
    setting,
)
from procosm.sparse.accelerator.mends import Mends
from procosm.sparse.accelerator.network import Densities, Total, cases, run_cases
from procosm.sparse.accelerator.problem import PHASES, Layer
from procosm.sparse.accelerator.search import QUICK
from procosm.sparse.accelerator.workloads import Workload, network


def mends(config: AcceleratorBenchmark) -> dict[str, Any]:
    """Each defect mended alone in layers where it can matter: odd channel counts, one PE, depthwise, a true stride."""
    stem = Workload("resnet18 stem at stride 2", (Layer("conv1", 224, 224, 3, 64, 7, 7, (3, 3), (2, 2)),))
    places = ((_one_layer("densenet", "Block1_2"), "CK"), (_one_layer("mobilenetv2", "FC"), "PQ"),
              (_one_layer("mobilenetv2", "Conv5_2"), "CN"), (stem, "CN"))  # fmt: skip
    rows = [row for work, flow in places for row in _place(work, flow, config)]
    return {"weight_density": 0.1, "assumptions": ASSUMPTIONS[2:], "rows": rows}


def _one_layer(name: str, layer: str) -> Workload:
    chosen = next(found for found in network(name).layers if found.name == layer)
    return Workload(f"{name} {layer}", (chosen,))


def _place(work: Workload, flow: str, config: AcceleratorBenchmark) -> list[dict[str, Any]]:
    variants = [(), *((name,) for name in Mends.names()), Mends.names()]
    densities = Densities(0.1, ACTIVATIONS)
    machines = [setting(mends=Mends.of(*names)) for names in variants]
    todo = [case for one in machines for case in cases(work, densities, flow, one, MINIBATCH, None, QUICK)]
    results = run_cases(todo, config.processes, f"{work.name} {flow}")
    size = len(work.layers) * len(PHASES)
    totals = [Total.of(results[start : start + size]) for start in range(0, len(results), size)]
    rows = []
    for names, total in zip(variants, totals, strict=True):
        label = names[0] if len(names) == 1 else "all" if names else "faithful"
        rows.append({"network": work.name, "dataflow": flow, "mended": label, "energy_ratio": total.energy_ratio,
                     "speedup": total.speedup, "dense_energy": total.dense / totals[0].dense,
                     "sparse_energy": total.balanced / totals[0].balanced,
                     "dense_cycles": total.dense_cycles / totals[0].dense_cycles,
                     "sparse_cycles": total.balanced_cycles / totals[0].balanced_cycles})  # fmt: skip
        print(f"{work.name:<26}{flow}  {label:<18} energy {total.energy_ratio:.2f}x  speed {total.speedup:.2f}x")
    return rows
