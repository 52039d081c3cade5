"""A whole network: every layer in three phases, dense and sparse, each distinct case searched once, in processes."""

from __future__ import annotations

import time
from collections.abc import Iterable
from collections.abc import Mapping as Table
from concurrent.futures import as_completed
from dataclasses import dataclass, replace

import numpy as np

from procosm.sparse.accelerator import mapping as mappings
from procosm.sparse.accelerator.balance import loads
from procosm.sparse.accelerator.mapping import Mapping
from procosm.sparse.accelerator.masks import problem_mask, weight_mask
from procosm.sparse.accelerator.problem import PHASES, Layer, Problem, phase_problem
from procosm.sparse.accelerator.search import THOROUGH, Effort, Search, Sparsity
from procosm.sparse.accelerator.simulate import Outcome, Setting, simulate_dense, simulate_sparse
from procosm.sparse.accelerator.workloads import Workload
from procosm.sparse.errors import SparseError
from procosm.sparse.processes import worker_processes


@dataclass(frozen=True)
class Densities:
    """How sparse the operands are."""

    weights: float | Table[str, float]
    """Weight density of every layer, or per layer name."""
    activations: float | None
    """Non-zero activations in the weight update; None: what a traced layer measured, else 1."""
    seed: int = 0
    """Seed of the Bernoulli masks; 0 gives the masks of the reference records."""

    def weight(self, layer: Layer) -> float:
        return self.weights if isinstance(self.weights, float) else self.weights[layer.name]

    def activation(self, layer: Layer) -> float:
        measured = 1.0 if layer.activation_density is None else layer.activation_density
        return measured if self.activations is None else self.activations


@dataclass(frozen=True)
class Case:
    """One layer in one phase on one dataflow, ready to be searched."""

    layer: Layer
    phase: str
    dataflow: str
    minibatch: int
    setting: Setting
    density: float
    weight_density: float
    seed: int
    mask: np.ndarray | None = None
    """A trained layer's weight mask [R, S, C, K]; None draws a Bernoulli mask."""
    effort: Effort = THOROUGH

    @property
    def problem(self) -> Problem:
        mends = self.setting.mends
        problem = phase_problem(self.layer, self.phase, self.minibatch, strided=mends.strided_input)
        width = self.setting.machine.array_width
        return mappings.padded(problem, self.dataflow, width) if mends.padded_array else problem


@dataclass(frozen=True)
class Result:
    """What one case costs, per repeat of the layer."""

    layer: str
    phase: str
    dataflow: str
    macs: int
    density: float
    utilisation: float
    """PEs in use over PEs there are."""
    dense_mapping: Mapping
    sparse_mapping: Mapping
    dense: Outcome
    balanced: Outcome
    unbalanced: Outcome
    imbalance: tuple[np.ndarray, np.ndarray]
    """Fullest over mean load per wave, before and after half-tile balancing (at most 1000 waves)."""
    repeats: int = 1
    seconds: float = 0.0


def run_case(case: Case) -> Result:
    """Search and simulate one case, dense and sparse; errors name the layer and phase."""
    begin = time.perf_counter()
    try:
        return replace(_run_case(case), seconds=time.perf_counter() - begin)
    except SparseError as error:
        raise SparseError(
            f"layer {case.layer.name!r}, phase {case.phase}, dataflow {case.dataflow}: {error}"
        ) from error


def _run_case(case: Case) -> Result:
    problem, setting = case.problem, case.setting
    dense_mapping = Search(problem, case.dataflow, setting, None, case.effort).best()
    dense = simulate_dense(problem, dense_mapping, setting)
    density = case.density
    waves: tuple[np.ndarray, np.ndarray] = np.ones(1), np.ones(1)
    if density == 1 and case.mask is None:  # an operand without zeros is stored uncompressed: the dense machine
        chosen, balanced, unbalanced = dense_mapping, dense, dense
    else:
        mask = weight_mask(problem, case.mask) if case.mask is not None else problem_mask(problem, density, case.seed)
        density = float(mask.mean())
        if density == 0:
            raise SparseError(f"density {case.density} leaves no non-zero element; use a higher density or seed")
        sparsity = Sparsity(density, mask, case.mask is None, case.weight_density)
        chosen = Search(problem, case.dataflow, setting, sparsity, case.effort).best()
        balanced, unbalanced = simulate_sparse(problem, chosen, mask, setting, case.weight_density)
        load = loads(mask, problem, chosen.rf, chosen.spatial)
        waves = _sample(load.imbalance(False)), _sample(load.imbalance(True))
    return Result(
        case.layer.name, case.phase, case.dataflow, problem.macs, density, dense_mapping.pes / setting.machine.pes,
        dense_mapping, chosen, dense, balanced, unbalanced, waves,
    )  # fmt: skip


def _sample(values: np.ndarray) -> np.ndarray:
    return values[:: max(1, len(values) // 1000)][:1000]


def cases(
    workload: Workload, densities: Densities, dataflow: str, setting: Setting, minibatch: int,
    masks: Table[str, np.ndarray] | None = None, effort: Effort = THOROUGH, phases: Iterable[str] = PHASES,
) -> list[Case]:  # fmt: skip
    """Every layer in every phase; a layer without a mask ([R, S, C, K], by name) keeps the density asked for."""
    found = []
    for layer in workload.layers:
        mask = masks.get(layer.name) if masks else None
        kept = float(mask.mean()) if mask is not None else densities.weight(layer)
        for phase in phases:
            own = mask if phase != "wu" else None
            density = densities.activation(layer) if phase == "wu" else kept
            if not 0 < density <= 1:
                raise SparseError(f"layer {layer.name!r}, phase {phase}: density {density} must lie in (0, 1]")
            found.append(Case(layer, phase, dataflow, minibatch, setting, density, kept, densities.seed, own, effort))
    return found


def _key(case: Case) -> tuple:
    own = case.mask.tobytes() if case.mask is not None else None
    written = case.weight_density if case.setting.mends.sparse_writeback else None
    return (case.layer.shape_key, case.phase, case.dataflow, case.minibatch, case.setting, case.density, written,
            case.seed, own, case.effort)  # fmt: skip


def run_cases(todo: list[Case], processes: int = 2, label: str = "cases") -> list[Result]:
    """Results in the order of the cases; equal problems are run once, in worker processes when there are several."""
    from tqdm import tqdm

    unique: dict[tuple, Case] = {}
    keys = [_key(case) for case in todo]
    for key, case in zip(keys, todo, strict=True):
        unique.setdefault(key, case)
    first: dict[tuple, int] = {}
    for position, key in enumerate(unique):
        first.setdefault(key[:2], position)
    unique = dict(sorted(unique.items(), key=lambda item: first[item[0][:2]]))  # a layer and phase in every dataflow
    done: dict[tuple, Result] = {}
    with tqdm(total=len(unique), desc=label, unit="case") as bar:
        if processes == 1 or len(unique) < 4:
            for key, case in unique.items():
                done[key] = run_case(case)
                bar.update()
        else:
            with worker_processes(processes) as pool:
                waiting = {pool.submit(run_case, case): key for key, case in unique.items()}
                for future in as_completed(waiting):
                    done[waiting[future]] = future.result()
                    bar.update()
    return [replace(done[key], layer=case.layer.name, repeats=case.layer.repeats)
            for key, case in zip(keys, todo, strict=True)]  # fmt: skip


@dataclass(frozen=True)
class Total:
    """Sums over results: energies in the table's unit, cycles."""

    dense: float
    balanced: float
    unbalanced: float
    dense_cycles: int
    balanced_cycles: int
    unbalanced_cycles: int

    @classmethod
    def of(cls, results: Iterable[Result]) -> Total:
        rows = list(results)
        modes = ("dense", "balanced", "unbalanced")
        energies = [sum(getattr(r, mode).energy * r.repeats for r in rows) for mode in modes]
        cycles = [sum(getattr(r, mode).cycles * r.repeats for r in rows) for mode in modes]
        return cls(*energies, *cycles)

    @property
    def energy_ratio(self) -> float:
        return self.dense / self.balanced

    @property
    def speedup(self) -> float:
        return self.dense_cycles / self.balanced_cycles

    @property
    def speedup_unbalanced(self) -> float:
        return self.dense_cycles / self.unbalanced_cycles
