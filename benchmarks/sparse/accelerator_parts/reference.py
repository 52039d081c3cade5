"""Is the model the authors', and does its search find mappings as good as the stored ones? How fast is it?"""

import time
from typing import Any

import numpy as np

from procosm.benchmarks.sparse.accelerator_parts.common import ACTIVATIONS, MINIBATCH, AcceleratorBenchmark, setting
from procosm.sparse.accelerator.masks import problem_mask
from procosm.sparse.accelerator.network import Densities, cases, run_cases
from procosm.sparse.accelerator.recordfile import compare, read_records
from procosm.sparse.accelerator.records import evaluate_all, parse
from procosm.sparse.accelerator.search import THOROUGH, Sparsity, search
from procosm.sparse.accelerator.simulate import Setting, simulate_dense, simulate_sparse
from procosm.sparse.accelerator.workloads import network, network_names

AUTHORS_SECONDS = 60.0
"""What the authors' mapper takes for one layer and phase, roughly: their simulator was not run here."""


def reference(config: AcceleratorBenchmark) -> dict[str, Any]:
    """Recompute every record on its stored mapping."""
    assert config.records is not None  # this part is not run without them
    raw = read_records(config.records)
    start = time.perf_counter()
    summary = compare(raw, evaluate_all(raw, MINIBATCH, setting(), config.processes))
    return {"accesses_equal": summary.pop("records_with_equal_accesses"), **summary,
            "seconds": round(time.perf_counter() - start, 1)}  # fmt: skip


def search_quality(config: AcceleratorBenchmark) -> dict[str, Any]:
    """Search every record's case anew: energy-delay product against the stored mapping's, and time."""
    from tqdm import tqdm

    assert config.records is not None  # this part is not run without them
    machine, raw = setting(), read_records(config.records)
    ratios, seconds = [], []
    for number, row in enumerate(tqdm(raw, desc="searches", unit="case")):
        record, flow = parse(row, number, MINIBATCH, machine), row["dataflow"]
        mask = problem_mask(record.problem, record.density) if record.sparse else None
        sparsity = Sparsity(float(mask.mean()), mask) if mask is not None else None
        start = time.process_time()
        found = search(record.problem, flow, machine, sparsity)
        seconds.append(time.process_time() - start)
        mine, stored = (_edp(record.problem, mapping, mask, machine) for mapping in (found, record.mapping))
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


def _edp(problem: Any, mapping: Any, mask: np.ndarray | None, machine: Setting) -> float:
    if mask is None:
        return simulate_dense(problem, mapping, machine).edp
    return simulate_sparse(problem, mapping, mask, machine)[0].edp


def speed(config: AcceleratorBenchmark) -> dict[str, Any]:
    """Wall time of whole networks: three phases, dense and sparse, the thorough search of `procosm accelerator`."""
    rows = []
    for name in network_names():
        work = network(name)
        todo = cases(work, Densities(work.budget, ACTIVATIONS), "KN", setting(), MINIBATCH, None,
                     THOROUGH)  # fmt: skip
        start = time.perf_counter()
        results = run_cases(todo, config.processes, name)
        seconds = time.perf_counter() - start
        searched = {(r.layer, r.phase): r.seconds for r in results}
        rows.append({"network": name, "layers": len(work.layers), "seconds": round(seconds, 1),
                     "slowest case seconds": round(max(searched.values()), 2)})  # fmt: skip
        print(f"{name:<12} {len(work.layers)} layers, three phases: {seconds:.1f} s with {config.processes} processes")
    return {"processes": config.processes, "dataflow": "KN", "rows": rows}
