"""Loop-nest reuse analysis: how often each tensor's tiles move between memory levels (accelerator.md, formulas 4, 5).

Everything is evaluated for a batch of B mappings at once: arrays of shape (B,) or (B, 7) of int64.

Closed form. Walk the loops above a level, visiting only iterations 0 (weight 1) and 1 (weight n-1) of each. When loop
j steps, every loop inside it falls back from 1 to 0, so the tile's box moves by an offset that depends on j alone.
The box then needs nothing (not moved), the new part (moved along one axis, overlapping) or everything. A partial move
counts as full when the move before it was partial in another direction; between two steps of outer loops the innermost
active loop always steps once, so only *its* direction can spoil the partial moves of the others:
fills = tile + sum over loops (n_j - 1) * (product of n outside j) * cost_j.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from procosm.sparse.accelerator.mapping import Mapping
from procosm.sparse.accelerator.mends import FAITHFUL, Mends
from procosm.sparse.accelerator.problem import DIMENSIONS, Problem, Tensor

Ints = np.ndarray


@dataclass(frozen=True)
class Batch:
    """B mappings of one problem: factors in the order RSPQCKN and loop orders, innermost first, all (B, 7)."""

    rf: Ints
    spatial: Ints
    glb: Ints
    dram: Ints
    glb_order: Ints
    dram_order: Ints

    @classmethod
    def of(cls, mapping: Mapping) -> Batch:
        """A batch of one."""
        orders = [[DIMENSIONS.index(c) for c in order] for order in (mapping.glb_order, mapping.dram_order)]
        rows = (mapping.rf, mapping.spatial, mapping.glb, mapping.dram, *orders)
        return cls(*(np.array([row], dtype=np.int64) for row in rows))

    def mapping(self, row: int) -> Mapping:
        """One row as a mapping."""
        levels = (self.rf, self.spatial, self.glb, self.dram)
        rf, spatial, glb, dram = (tuple(int(v) for v in factors[row]) for factors in levels)
        inner, outer = ("".join(DIMENSIONS[d] for d in order[row]) for order in (self.glb_order, self.dram_order))
        return Mapping(rf, spatial, glb, dram, inner, outer)

    @property
    def pes(self) -> Ints:
        return np.prod(self.spatial, axis=1)

    @property
    def wave_tile(self) -> Ints:
        return self.rf * self.spatial

    @property
    def glb_tile(self) -> Ints:
        return self.rf * self.spatial * self.glb


@dataclass(frozen=True)
class Accesses:
    """Dense accesses in words, arrays (level, tensor, B); the register file's are those of one PE."""

    tile: Ints
    reads: Ints
    updates: Ints
    fills: Ints


def extents(tensor: Tensor, tile: Ints) -> list[Ints]:
    """Length of the tile on each axis of a tensor; `tile` is (B, 7)."""
    one = np.ones(len(tile), dtype=np.int64)
    return [sum((step * (tile[:, dim] - 1) for dim, step in axis), one) for axis in tensor]


def volume(tensor: Tensor, tile: Ints) -> Ints:
    """Elements of the tile of a tensor, (B,)."""
    return np.prod(np.stack(extents(tensor, tile)), axis=0)


@dataclass(frozen=True)
class Loops:
    """Temporal loops above a level, inner to outer, (B, L): dimension, iterations, operations moved per iteration."""

    dims: Ints
    counts: Ints
    moves: Ints

    @classmethod
    def of(cls, order: Ints, counts: Ints, tile: Ints) -> Loops:
        """One level's loops over tiles of a size; loops that no mapping of the batch iterates are left out."""
        dims, n, move = order, np.take_along_axis(counts, order, 1), np.take_along_axis(tile, order, 1)
        active = (n > 1).any(axis=0)
        return cls(dims[:, active], n[:, active], move[:, active])

    def then(self, outer: Loops) -> Loops:
        """These loops inside others."""
        pairs = ((self.dims, outer.dims), (self.counts, outer.counts), (self.moves, outer.moves))
        return Loops(*(np.concatenate(pair, axis=1) for pair in pairs))

    def outside(self) -> Ints:
        """Product of the iterations of the loops outside each loop, (B, L)."""
        inclusive = np.cumprod(self.counts[:, ::-1], axis=1)[:, ::-1]
        return inclusive // self.counts


def fills(tensor: Tensor, tile: Ints, loops: Loops, exact: bool = False) -> Ints:
    """Words that enter a level holding `tile` (B, 7) of a tensor while the loops above it run, (B,).

    `exact` lets inner loops fall back from their true last iteration instead of from the second one visited.
    """
    lengths = extents(tensor, tile)
    full = np.prod(np.stack(lengths), axis=0)
    if not loops.counts.shape[1]:
        return full
    if all(len(axis) == 1 for axis in tensor):
        return _plain_fills(tensor, full, loops)
    return _window_fills(tensor, lengths, full, loops, exact)


def _plain_fills(tensor: Tensor, full: Ints, loops: Loops) -> Ints:
    """Without a sliding window: tile times all loops from the innermost relevant one outwards."""
    relevant = np.zeros(len(DIMENSIONS), dtype=bool)
    relevant[[dim for axis in tensor for dim, _ in axis]] = True
    begun = np.logical_or.accumulate(relevant[loops.dims] & (loops.counts > 1), axis=1)
    return full * np.prod(np.where(begun, loops.counts, 1), axis=1)


def _window_fills(tensor: Tensor, lengths: list[Ints], full: Ints, loops: Loops, exact: bool) -> Ints:
    steps = np.zeros((len(tensor), len(DIMENSIONS)), dtype=np.int64)
    for index, axis in enumerate(tensor):
        for dim, step in axis:
            steps[index, dim] = step
    size, outside = len(full), loops.outside()
    total = full.copy()
    inner = np.zeros((len(tensor), size), dtype=np.int64)  # offset that falls back when an outer loop steps
    lead = np.zeros(size, dtype=np.int64)  # direction of the innermost active loop, 0 when not a partial move
    begun = np.zeros(size, dtype=bool)
    length = np.stack(lengths)
    for j in range(loops.counts.shape[1]):
        count = loops.counts[:, j]
        active = count > 1
        move = steps[:, loops.dims[:, j]] * loops.moves[:, j]
        cost, direction = _step(move - inner, length, full)
        spoilt = begun & (lead != 0) & (direction != 0) & (direction != lead)
        total += (count - 1) * outside[:, j] * np.where(spoilt, full, cost)
        lead = np.where(active & ~begun, direction, lead)
        begun |= active
        inner += move * (count - 1 if exact else active)
    return total


def _step(offset: Ints, length: Ints, full: Ints) -> tuple[Ints, Ints]:
    """Words needed when a box moves by offset (axes, B), and the signed number of a partial move's axis (else 0)."""
    size = np.abs(offset)
    moved = size > 0
    number = np.count_nonzero(moved, axis=0)
    axis = np.argmax(moved, axis=0)
    rows = np.arange(offset.shape[1])
    along, room = size[axis, rows], length[axis, rows]
    partial = (number == 1) & (along < room)
    cost = np.where(number == 0, 0, np.where(partial, full // room * along, full))
    return cost, np.where(partial, np.sign(offset[axis, rows]) * (axis + 1), 0)


def spread(tensor: Tensor, spatial: Ints) -> Ints:
    """Distinct tiles of a tensor among the PEs: spatial factors of the dimensions it has (multicast is free)."""
    return np.prod(spatial[:, sorted({dim for axis in tensor for dim, _ in axis})], axis=1)


def accesses(problem: Problem, batch: Batch, mends: Mends = FAITHFUL) -> Accesses:
    """Dense reads, updates and fills of the three tensors at the three levels (formulas 4 and 5)."""
    size = len(batch.rf)
    macs_per_pe = problem.iterations // batch.pes
    tile, reads, updates, filled = (np.zeros((3, 3, size), dtype=np.int64) for _ in range(4))
    whole = np.tile(np.array(problem.bounds, dtype=np.int64), (size, 1))
    wave, buffered = batch.wave_tile, batch.glb_tile
    above_glb = Loops.of(batch.dram_order, batch.dram, buffered)
    above_rf = Loops.of(batch.glb_order, batch.glb, wave).then(above_glb)
    for index, tensor in enumerate(problem.tensors):
        for level, level_tile in enumerate((batch.rf, buffered, whole)):
            tile[level, index] = volume(tensor, level_tile)
        full = tile[2, index]
        filled[0, index] = fills(tensor, batch.rf, above_rf, mends.exact_halo)
        filled[1, index] = fills(tensor, buffered, above_glb, mends.exact_halo)
        to_array = filled[0, index] * spread(tensor, batch.spatial)
        if index == 2:
            own = full * tile[0, 2] // volume(tensor, wave)  # results one PE begins itself
            updates[:, index] = macs_per_pe, to_array, filled[1, index]
            reads[:, index] = macs_per_pe - own, to_array - full, filled[1, index] - full
        else:
            reads[:, index] = macs_per_pe, to_array, filled[1, index]
    return Accesses(tile, reads, updates, filled)
