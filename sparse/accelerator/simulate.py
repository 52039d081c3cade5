"""One case: a problem on a mapping, dense or with a mask, balanced and unbalanced."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from procosm.sparse.accelerator.balance import Loads, loads, tile_counts
from procosm.sparse.accelerator.energy import Energy, SparseTile, dense_energy, sparse_energy
from procosm.sparse.accelerator.machine import LEVELS, EnergyTable, Machine
from procosm.sparse.accelerator.mapping import Mapping, capacity
from procosm.sparse.accelerator.mends import FAITHFUL, Mends
from procosm.sparse.accelerator.problem import Problem
from procosm.sparse.accelerator.reuse import Accesses, Batch, accesses


@dataclass(frozen=True)
class Setting:
    """What stays fixed while layers and mappings change."""

    machine: Machine
    table: EnergyTable
    mends: Mends = field(default=FAITHFUL)


@dataclass(frozen=True)
class Outcome:
    """Cycles and energy of one case on one machine variant."""

    cycles: int
    storage: tuple[tuple[float, ...], ...]
    """Energy by level (register file, global buffer, DRAM) and tensor."""
    index: tuple[float, ...]
    """Energy of masks and block pointers by level."""
    sort: float
    mac: float

    @classmethod
    def of(cls, energy: Energy, cycles: int, row: int = 0) -> Outcome:
        storage = tuple(tuple(float(v) for v in level[:, row]) for level in energy.storage)
        index = tuple(float(v) for v in energy.index[:, row])
        return cls(cycles, storage, index, float(energy.sort[row]), float(energy.mac[row]))

    @property
    def parts(self) -> dict[str, float]:
        """Energy by component; the parts sum to the total."""
        levels = {name: sum(row) for name, row in zip(LEVELS, self.storage, strict=True)}
        return {**levels, "MAC": self.mac, "index": sum(self.index), "sort": self.sort}

    @property
    def energy(self) -> float:
        return sum(self.parts.values())

    @property
    def edp(self) -> float:
        """Energy-delay product, table units times cycles."""
        return self.energy * self.cycles


def dense_cycles(problem: Problem, mapping: Mapping) -> int:
    """No bandwidth limit: iterations over PEs in use (formula 3)."""
    return problem.iterations // mapping.pes


def simulate_dense(problem: Problem, mapping: Mapping, setting: Setting) -> Outcome:
    """The machine without sparsity on a mapping."""
    mapping.check(problem)
    batch = Batch.of(mapping)
    counts, pes = accesses(problem, batch, setting.mends), batch.pes
    energy = dense_energy(problem, counts, pes, setting.machine, setting.table, setting.mends)
    return Outcome.of(energy, dense_cycles(problem, mapping))


def simulate_sparse(
    problem: Problem, mapping: Mapping, mask: np.ndarray, setting: Setting, weight_density: float = 1.0
) -> tuple[Outcome, Outcome]:
    """With a mask of shape problem.mask_shape: (balanced, unbalanced). Raises SparseError when a tile does not fit."""
    mapping.check(problem)
    density = float(mask.mean())
    capacity(problem, mapping, setting.machine, density)
    batch = Batch.of(mapping)
    counts, pes = accesses(problem, batch, setting.mends), batch.pes
    load = loads(mask, problem, mapping.rf, mapping.spatial)
    outcomes = []
    for balancing in (True, False):
        tile = sparse_tile(problem, mapping, mask, counts, load, balancing, setting)
        energy = sparse_energy(problem, counts, pes, tile, density, setting.machine, setting.table, setting.mends,
                               weight_density)  # fmt: skip
        factor = load.inverse_speedup(balancing) if gains_cycles(counts, pes, setting.mends)[0] else 1.0
        outcomes.append(Outcome.of(energy, math.ceil(dense_cycles(problem, mapping) * factor)))
    return outcomes[0], outcomes[1]


def partial_tiles(counts: Accesses) -> tuple[np.ndarray, np.ndarray]:
    """Where the register-file and buffer tile of the sparse operand are neither one element nor the whole tensor."""
    whole = counts.tile[2, 0]
    rf, glb = ((counts.tile[level, 0] != 1) & (counts.tile[level, 0] != whole) for level in (0, 1))
    return rf, glb


def gains_cycles(counts: Accesses, pes: np.ndarray, mends: Mends) -> np.ndarray:
    """The authors' model looks for saved cycles only in partial register-file tiles on more than one PE (quirk 1)."""
    return np.ones(pes.shape, dtype=bool) if mends.tiny_tiles else partial_tiles(counts)[0] & (pes > 1)


def sparse_tile(
    problem: Problem, mapping: Mapping, mask: np.ndarray, counts: Accesses, load: Loads, balancing: bool,
    setting: Setting,
) -> SparseTile:  # fmt: skip
    """Blocks, balancing and overflow of one mapping under a mask (formulas 8 to 11 with their quirks)."""
    machine, mends = setting.machine, setting.mends
    rf_partial, glb_partial = (bool(flag[0]) for flag in partial_tiles(counts))
    split = balancing and load.balanced is not None and rf_partial
    rf_budget, glb_budget = (
        words - int(counts.tile[level, 1, 0] + counts.tile[level, 2, 0])
        for level, words in enumerate((machine.rf_words, machine.glb_words))
    )
    rf_over = glb_over = 0
    if rf_partial and (split or not balancing or mends.paid_overflow):
        rf_over = load.overflow(balancing, rf_budget)
    if glb_partial and (not balancing or mends.paid_overflow):
        tile = tuple(mapping.glb_tile[dim] for dim in problem.sparse_dims)
        budget = glb_budget if rf_partial or mends.own_budget else rf_budget
        glb_over = int(np.maximum(tile_counts(mask, tile) - budget, 0).sum())
    half = load.volume // 2 if split else load.volume if rf_partial else int(counts.tile[1, 0, 0]) * glb_partial
    columns = (half, split, 2 * load.unbalanced.shape[1], rf_over, glb_over)
    return SparseTile(*(np.array([value]) for value in columns))
