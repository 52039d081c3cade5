"""Records of the reference schema: recompute them on their stored mappings (data/accelerator_reference.json)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import as_completed
from dataclasses import dataclass
from typing import Any

import numpy as np

from procosm.sparse.accelerator.machine import LEVELS
from procosm.sparse.accelerator.mapping import Mapping, capacity, spatial_factors
from procosm.sparse.accelerator.masks import MOST_ELEMENTS, problem_mask
from procosm.sparse.accelerator.problem import Layer, Problem, phase_problem
from procosm.sparse.accelerator.reuse import Accesses, Batch, accesses
from procosm.sparse.accelerator.simulate import Setting, simulate_dense, simulate_sparse
from procosm.sparse.errors import SparseError
from procosm.sparse.processes import worker_processes


@dataclass(frozen=True)
class Record:
    """One stored case: a layer in a phase on a mapping, and where it stood in the file."""

    number: int
    problem: Problem
    mapping: Mapping
    density: float
    sparse: bool

    @property
    def mask_key(self) -> tuple:
        return self.problem.mask_shape, self.density


def parse(raw: Any, number: int, minibatch: int, setting: Setting) -> Record:
    """Check one record; SparseError names it by its position and says what is malformed."""
    from procosm.sparse.accelerator.schema import RawRecord, checked

    checked(RawRecord, raw, f"record {number}")
    try:
        return _parse(raw, number, minibatch, setting)
    except SparseError as error:
        raise SparseError(f"record {number}: {error}") from error


def _parse(raw: dict[str, Any], number: int, minibatch: int, setting: Setting) -> Record:
    density = raw["density"]
    problem = phase_problem(Layer.from_dims("record", raw["dims"]), raw["phase"], minibatch)
    for key, computed in (("bounds", list(problem.bounds)), ("shape", problem.shape.value)):
        if key in raw and raw[key] != computed:
            raise SparseError(
                f"{key} {raw[key]!r} disagrees with dims, phase and a minibatch of {minibatch}: {computed!r}"
            )
    if math.prod(problem.mask_shape) > MOST_ELEMENTS:
        raise SparseError(f"its sparse operand has {problem.mask_shape} elements, more than {MOST_ELEMENTS:,}")
    spatial = raw.get("spatial") or spatial_factors(problem, raw["dataflow"], setting.machine.array_width)
    mapping = Mapping(
        tuple(raw["RF"]), tuple(spatial), tuple(raw["GLB"]), tuple(raw["DRAM"]), raw["perm_GLB"], raw["perm_DRAM"]
    )
    mapping.check(problem)
    if mapping.pes > setting.machine.pes:
        raise SparseError(f"spatial factors use {mapping.pes} PEs, the machine has {setting.machine.pes}: give --pes 32"
                          " or state the machine in the file's readme")  # fmt: skip
    sparse = raw.get("kind", "sparse" if density < 1 else "dense") == "sparse"
    if not sparse:
        capacity(problem, mapping, setting.machine, 1.0)
    return Record(number, problem, mapping, float(density), sparse)


def evaluate_group(group: list[Record], setting: Setting) -> list[tuple[int, dict[str, Any]]]:
    """Rows of records that share a mask."""
    mask = problem_mask(group[0].problem, group[0].density) if any(record.sparse for record in group) else None
    return [(record.number, evaluate(record, mask, setting)) for record in group]


def evaluate(record: Record, mask: np.ndarray | None, setting: Setting) -> dict[str, Any]:
    """The five figures of a record and its dense accesses; a dense record's sparse figures are its dense ones."""
    problem, mapping = record.problem, record.mapping
    dense = simulate_dense(problem, mapping, setting)
    balanced = unbalanced = dense
    if record.sparse and mask is not None:
        try:
            balanced, unbalanced = simulate_sparse(problem, mapping, mask, setting)
        except SparseError as error:
            raise SparseError(f"record {record.number}: {error}") from error
    return {
        "cycles_balanced": balanced.cycles,
        "cycles_unbalanced": unbalanced.cycles,
        "energy_dense": dense.energy,
        "energy_balanced": balanced.energy,
        "energy_unbalanced": unbalanced.energy,
        "cycles_dense": dense.cycles,
        "acc": _access_table(accesses(problem, Batch.of(mapping), setting.mends)),
    }


def _access_table(counts: Accesses) -> dict[str, dict[str, list[int]]]:
    kinds = ("tile", "reads", "updates", "fills")
    return {name: {kind: getattr(counts, kind)[level, :, 0].tolist() for kind in kinds}
            for level, name in enumerate(LEVELS)}  # fmt: skip


def _groups(records: list[Record]) -> Iterator[list[Record]]:
    found: dict[tuple, list[Record]] = {}
    for record in records:
        found.setdefault(record.mask_key if record.sparse else ("dense", record.number // 32), []).append(record)
    yield from found.values()


def evaluate_all(raw: list[Any], minibatch: int, setting: Setting, processes: int = 1) -> list[dict[str, Any]]:
    """One row per record, in the file's order; masks are drawn once per shape and density."""
    from tqdm import tqdm

    groups = list(_groups([parse(row, number, minibatch, setting) for number, row in enumerate(raw)]))
    rows: dict[int, dict[str, Any]] = {}
    with tqdm(total=len(raw), desc="records", unit="record") as bar:
        if processes == 1 or len(groups) < 4:
            for group in groups:
                rows |= evaluate_group(group, setting)
                bar.update(len(group))
        else:
            with worker_processes(processes) as pool:
                for future in as_completed([pool.submit(evaluate_group, group, setting) for group in groups]):
                    rows |= (found := future.result())
                    bar.update(len(found))
    return [rows[number] for number in range(len(raw))]
