"""Mapping search: the tiling and loop order of least energy (dense) or energy-delay product (sparse).

Two facts shrink the space. A loop order matters through the block of loops innermost in it, and every loop is
irrelevant to at most one tensor, so orders of a few groups (plus which window axis slides first) are enough. And DRAM
traffic depends on the buffer's tile and the DRAM order alone, so pairs of these are ranked by it and joined with
register-file tiles in the order of a lower bound, until the bound can no longer beat the best mapping found.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from procosm.sparse.accelerator.balance import split_dim, tile_counts
from procosm.sparse.accelerator.candidates import (
    Costs,
    bound,
    buffer_bound,
    buffer_stage,
    joined_runs,
    orders,
    register_stage,
    rests,
    tilings,
)
from procosm.sparse.accelerator.energy import SparseTile, dense_energy, sparse_energy
from procosm.sparse.accelerator.loadmodel import Estimate, bernoulli_estimate, mask_estimate
from procosm.sparse.accelerator.mapping import Mapping, spatial_factors
from procosm.sparse.accelerator.problem import Problem, R, S
from procosm.sparse.accelerator.reuse import Accesses, Batch, accesses
from procosm.sparse.accelerator.simulate import Setting, gains_cycles, partial_tiles, simulate_sparse
from procosm.sparse.errors import SparseError


@dataclass(frozen=True)
class Effort:
    """How far a search looks."""

    buffers: int = 1200
    """Buffer tiles considered, the cheapest in DRAM energy."""
    cheapest: int = 60
    """Of them, opened for their DRAM energy alone."""
    glance: int = 300
    """Register tiles each of them is first judged with."""
    opened: int = 140
    """Opened because a register tile of the first judgement suits them."""
    each: int = 4
    """DRAM orders kept per opened buffer tile."""
    registers: int = 600
    """Register tiles joined with the opened buffer tiles."""
    chunk: int = 300
    """Tilings evaluated at a time, each in every order of the buffer's loops."""
    chunks: int = 6
    """Chunks at most; the bound usually ends the search earlier."""
    finalists: int = 128
    """Tilings kept for the recount on the true mask."""
    countable: int = 1 << 18
    """Mask elements (kernels summed) up to which waits are counted for every tile instead of estimated."""
    recounted: int = 1 << 25
    """Mask elements visited by the recount: large masks get fewer tiles."""


THOROUGH = Effort()
QUICK = Effort(buffers=300, cheapest=16, opened=24, glance=120, each=2, registers=200, chunk=120, chunks=2,
               finalists=24, recounted=1 << 23, countable=1 << 14)  # fmt: skip
"""For comparisons of dataflows, array sizes and assumptions, where a near-best mapping is enough."""


@dataclass(frozen=True)
class Sparsity:
    """The sparse operand of a search: its mask, or the Bernoulli density it would have."""

    density: float
    mask: np.ndarray | None = None
    """Counted for small tensors and for the last few candidates; None leaves the estimate."""
    independent: bool = True
    """True for Bernoulli masks, whose waits can be estimated once per tile size; False counts the mask throughout."""
    weight_density: float = 1.0


class Search:
    """One problem on one dataflow: enumerates, bounds, evaluates."""

    def __init__(self, problem: Problem, dataflow: str, setting: Setting, sparsity: Sparsity | None, effort: Effort):
        self.problem, self.setting, self.sparsity, self.effort = problem, setting, sparsity, effort
        self.spatial = np.array(spatial_factors(problem, dataflow, setting.machine.array_width), dtype=np.int64)
        self.rest = np.array(problem.bounds, dtype=np.int64) // self.spatial
        self.pes = int(np.prod(self.spatial))
        self.density = 1.0 if sparsity is None else sparsity.density
        self.held = np.zeros(7, dtype=bool)
        self.held[[R, S]] = not problem.update  # whole kernels stay in a PE, formula 2
        self.costs = Costs.of(problem, setting, self.pes, None if sparsity is None else self.density)
        self.estimates: dict[tuple[int, ...], Estimate] = {}
        self.counts: np.ndarray | None = None
        self.exact = False  # whether waits are counted on the mask instead of estimated
        if sparsity is not None and sparsity.mask is not None:
            self.counts = self._counts(sparsity.mask)
            self.exact = not sparsity.independent or self.counts.size <= effort.countable

    def best(self) -> Mapping:
        """The best mapping found; SparseError when not even the smallest tile fits."""
        machine = self.setting.machine
        one = np.ones(7, dtype=np.int64)
        registers = tilings(self.problem, self.rest, one, self.held, machine.rf_words, self.density)
        buffers = tilings(self.problem, self.rest, self.spatial, self.held, machine.glb_words, self.density)
        if not len(registers) or not len(buffers):
            where = (
                f"register file of {machine.rf_words}"
                if not len(registers)
                else f"global buffer of {machine.glb_words}"
            )
            kernel = "x".join(str(b) for b in self.problem.bounds[:2])
            raise SparseError(f"the smallest tile (a whole {kernel} kernel) does not fit the {where} words")
        ways = orders(self.problem, np.where(self.held, 1, self.rest))
        ranked = self._ranked(registers, buffers, ways)
        rows, scores = self._evaluate(ranked, ways)
        return self._recounted(rows, scores)

    def _counts(self, mask: np.ndarray) -> np.ndarray:
        """The mask, summed over the kernel where every register tile holds it whole and never cuts it."""
        dims, bounds = self.problem.sparse_dims, self.problem.bounds
        whole = [bounds[dim] if self.held[dim] and bounds[dim] % 2 else 1 for dim in dims]
        return tile_counts(mask, tuple(whole)) if max(whole) > 1 else mask

    def _ranked(self, registers: np.ndarray, buffers: np.ndarray, ways: np.ndarray) -> tuple:
        """Register tiles joined with the buffer tiles they divide, best bound first."""
        problem, rest, spatial, costs, effort = self.problem, self.rest, self.spatial, self.costs, self.effort
        cost = register_stage(problem, registers, rest, spatial, costs)
        alone = self._fixed_energy() + self._pointers(registers)
        wait = np.array([self._wait(row) for row in registers])
        base = buffer_bound(problem, buffers, rest, spatial, costs)
        least = (alone + base.min() + bound(cost, rests(problem, rest // registers))) * wait
        few = np.argsort(least, kind="stable")[: effort.registers]
        few = np.append(few, np.argmin(np.prod(registers, axis=1)))  # the smallest divides every buffer tile
        registers, cost, alone, wait = registers[few], cost[:, few], alone[few], wait[few]

        def joined(buffers: np.ndarray, ways: np.ndarray | None, base: np.ndarray, first: int) -> np.ndarray:
            runs, fits = joined_runs(problem, registers[:first], buffers, ways, rest)
            energy = alone[:first] + base[:, None] + bound(cost[:, None, :first], runs)
            return np.where(fits, energy * wait[:first], np.inf)

        near = np.argsort(base, kind="stable")[: effort.buffers]
        promise = joined(buffers[near], None, base[near], effort.glance).min(axis=1)
        chosen = np.union1d(near[: effort.cheapest], near[np.argsort(promise, kind="stable")[: effort.opened]])
        opened = buffers[chosen]
        buffers, way, base = buffer_stage(problem, opened, rest, spatial, ways, costs, effort.each)
        score = joined(buffers, way, base, len(registers))
        first = np.argsort(score, axis=None, kind="stable")[: effort.chunk * effort.chunks]
        first = first[np.isfinite(score.flat[first])]
        buffer, register = np.unravel_index(first, score.shape)
        return registers[register], buffers[buffer], way[buffer], score.flat[first]

    def _pointers(self, registers: np.ndarray) -> np.ndarray:
        """Least energy of block pointers: one per register tile, handed out once (weight update: also from DRAM)."""
        if self.sparsity is None:
            return np.zeros(len(registers))
        machine, table = self.setting.machine, self.setting.table
        blocks = np.prod(self.problem.mask_shape) / np.prod(registers[:, list(self.problem.sparse_dims)], axis=1)
        price = table.glb_line / 2 + self.problem.update * table.dram_line / 2
        return blocks * machine.pointer_bits / machine.word_bits * price

    def _fixed_energy(self) -> float:
        """MACs and their register accesses, which no mapping changes, less results that are never read back."""
        table, macs, d = self.setting.table, self.problem.macs, self.density
        begun = self.problem.sizes()[2] * (table.dram_line + table.glb_line) / 2  # first touches are not read back
        return macs * (table.mac * d + table.rf_word * (1 + 3 * d + (self.sparsity is not None) / 32)) - begun

    def _wait(self, rf: np.ndarray) -> float:
        if self.sparsity is None:
            return 1.0
        tile = tuple(int(rf[dim]) for dim in self.problem.sparse_dims)
        size = int(np.prod(tile))
        tiny = self.pes == 1 or size == 1 or size == int(np.prod(self.problem.mask_shape))
        return 1.0 if tiny and not self.setting.mends.tiny_tiles else self._estimate(rf).inverse_speedup

    def _estimate(self, rf: np.ndarray) -> Estimate:
        key = tuple(int(rf[dim]) for dim in self.problem.sparse_dims)
        if key not in self.estimates:
            factors, spatial = tuple(int(v) for v in rf), tuple(int(v) for v in self.spatial)
            if self.counts is not None and self.exact:
                self.estimates[key] = mask_estimate(self.counts, self.problem, factors, spatial)
            else:
                self.estimates[key] = self._independent(factors, spatial)
        return self.estimates[key]

    def _independent(self, rf: tuple[int, ...], spatial: tuple[int, ...]) -> Estimate:
        dims = self.problem.sparse_dims
        tiles = int(np.prod([spatial[dim] for dim in dims]))
        size = int(np.prod([rf[dim] for dim in dims]))
        cut = split_dim(self.problem, rf, spatial) is not None
        one = bernoulli_estimate(tiles, size, cut, round(self.density, 3))
        return Estimate(one.inverse_speedup, one.excess * (np.prod(self.problem.mask_shape) / size))

    def _evaluate(self, ranked: tuple, ways: np.ndarray) -> tuple[Batch, np.ndarray]:
        """Exact accesses of the ranked tilings in every buffer order, until the bound says stop."""
        registers, buffers, dram_ways, score = ranked
        kept: list[tuple[Batch, np.ndarray]] = []
        best = np.inf
        for start in range(0, len(registers), self.effort.chunk):
            part = slice(start, start + self.effort.chunk)
            if score[start] >= best:
                break
            batch = self._batch(registers[part], buffers[part], dram_ways[part], ways)
            value = self._score(batch)
            rows = np.arange(0, len(value), len(ways)) + value.reshape(-1, len(ways)).argmin(axis=1)
            top = rows[np.argsort(value[rows], kind="stable")[: self.effort.finalists]]
            kept.append((_take(batch, top), value[top]))
            best = min(best, float(value[top[0]]) * (1.01 if self.sparsity is None else 1.03))
        merged = Batch(*(np.concatenate([getattr(b, f) for b, _ in kept]) for f in Batch.__dataclass_fields__))
        values = np.concatenate([value for _, value in kept])
        top = np.argsort(values, kind="stable")[: self.effort.finalists]
        return _take(merged, top), values[top]

    def _batch(self, rf: np.ndarray, buffers: np.ndarray, dram_ways: np.ndarray, ways: np.ndarray) -> Batch:
        repeat = len(ways)
        rf, buffers = np.repeat(rf, repeat, axis=0), np.repeat(buffers, repeat, axis=0)
        order = np.tile(ways, (len(rf) // repeat, 1))
        spatial = np.tile(self.spatial, (len(rf), 1))
        return Batch(rf, spatial, buffers // rf, self.rest // buffers, order, np.repeat(dram_ways, repeat, axis=0))

    def _score(self, batch: Batch) -> np.ndarray:
        """Energy (dense: cycles are the same for all) or balanced energy-delay product, cycles relative to dense."""
        counts = accesses(self.problem, batch, self.setting.mends)
        machine, table, mends = self.setting.machine, self.setting.table, self.setting.mends
        if self.sparsity is None:
            return dense_energy(self.problem, counts, batch.pes, machine, table, mends).total
        tile, wait = self._sparse_tiles(batch, counts)
        energy = sparse_energy(self.problem, counts, batch.pes, tile, self.density, machine, table, mends,
                               self.sparsity.weight_density)  # fmt: skip
        allowed = (tile.rf_overflow <= self.density * counts.tile[2, 0]) | (tile.rf_overflow == 0)
        return np.where(allowed, energy.total * wait, np.inf)

    def _sparse_tiles(self, batch: Batch, counts: Accesses) -> tuple[SparseTile, np.ndarray]:
        """Blocks, overflow and waits of a batch from the estimates (balanced machine, formulas 8 to 11)."""
        mends, dims = self.setting.mends, list(self.problem.sparse_dims)
        keys, inverse = np.unique(batch.rf[:, dims], axis=0, return_inverse=True)
        rows = [int(np.flatnonzero(inverse.ravel() == i)[0]) for i in range(len(keys))]
        estimates = [self._estimate(batch.rf[row]) for row in rows]
        spatial = tuple(int(v) for v in self.spatial)
        cut = np.array(
            [split_dim(self.problem, tuple(int(v) for v in batch.rf[row]), spatial) is not None for row in rows]
        )
        inverse = inverse.ravel()
        rf_partial, glb_partial = partial_tiles(counts)
        split = cut[inverse] & rf_partial
        size = counts.tile[0, 0]
        half = np.where(split, size // 2, np.where(rf_partial, size, counts.tile[1, 0] * glb_partial))
        budget = self.setting.machine.rf_words - counts.tile[0, 1] - counts.tile[0, 2]
        over = np.zeros(len(inverse))
        for index, estimate in enumerate(estimates):
            mine = inverse == index
            over[mine] = estimate.overflow(budget[mine])
        over *= split | (rf_partial & mends.paid_overflow)
        wait = np.array([estimate.inverse_speedup for estimate in estimates])[inverse]
        wait = np.where(gains_cycles(counts, batch.pes, mends), wait, 1.0)
        halves = np.full(len(inverse), 2 * int(np.prod(self.spatial[dims])))
        return SparseTile(half, split, halves, over, np.zeros(len(inverse))), wait

    def _recounted(self, rows: Batch, scores: np.ndarray) -> Mapping:
        """Count the waits of the leading register tiles on the true mask and choose among their mappings."""
        if self.counts is None:
            return rows.mapping(0)
        if self.exact:
            close = np.flatnonzero(scores <= scores[0] * (1 + 1e-4))[:6]
            return min((rows.mapping(int(row)) for row in close), key=self._simulated)
        dims = list(self.problem.sparse_dims)
        limit = int(np.clip(self.effort.recounted // self.counts.size, 2, 64))
        keys = [tuple(row) for row in rows.rf[:, dims]]
        leading = set(list(dict.fromkeys(keys))[:limit])
        chosen = np.array([key in leading for key in keys])
        self.exact, self.estimates = True, {}
        rows = _take(rows, np.flatnonzero(chosen))
        return rows.mapping(int(np.argmin(self._score(rows))))

    def _simulated(self, mapping: Mapping) -> float:
        """Energy-delay product in whole cycles: near-ties differ by the rounding of one cycle."""
        sparsity = self.sparsity
        assert sparsity is not None and sparsity.mask is not None
        return simulate_sparse(self.problem, mapping, sparsity.mask, self.setting, sparsity.weight_density)[0].edp


def _take(batch: Batch, rows: np.ndarray) -> Batch:
    return Batch(*(getattr(batch, field)[rows] for field in Batch.__dataclass_fields__))


def search(
    problem: Problem, dataflow: str, setting: Setting, sparsity: Sparsity | None = None, effort: Effort = THOROUGH
) -> Mapping:  # fmt: skip
    """Best mapping of a problem: least energy without sparsity, least balanced energy-delay product with it."""
    return Search(problem, dataflow, setting, sparsity, effort).best()
