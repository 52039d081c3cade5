"""Energy of a batch of mappings, dense and sparse (accelerator.md, formulas 6 to 8, 10, 11).

Arrays are (level, tensor, B), levels register file, global buffer, DRAM, tensors as in problem.py. Energies are totals
over the machine in the energy table's unit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from procosm.sparse.accelerator.machine import EnergyTable, Machine
from procosm.sparse.accelerator.mends import FAITHFUL, Mends
from procosm.sparse.accelerator.problem import P, Problem, Q, R, S, Shape, extent
from procosm.sparse.accelerator.reuse import Accesses


@dataclass(frozen=True)
class Energy:
    """Where the energy goes; `index` is (level, B), `mac` and `sort` are (B,)."""

    storage: np.ndarray
    index: np.ndarray
    sort: np.ndarray
    mac: np.ndarray

    @property
    def total(self) -> np.ndarray:
        return self.storage.sum(axis=(0, 1)) + self.index.sum(axis=0) + self.sort + self.mac


@dataclass(frozen=True)
class SparseTile:
    """What the mask says about each mapping of a batch, arrays (B,)."""

    half: np.ndarray
    """Elements of the block a pointer stands for in the buffers: half-tile, tile, buffer tile, or 0 for none."""
    split: np.ndarray
    """True where half-tiles are balanced."""
    wave_halves: np.ndarray
    """Half-tiles sorted together, 2U."""
    rf_overflow: np.ndarray
    """Non-zeros beyond the register files' budget, one pass over the sparse operand."""
    glb_overflow: np.ndarray
    """Non-zeros beyond the global buffer's budget, one pass."""


def _lines(words: np.ndarray, machine: Machine) -> np.ndarray:
    """Whole lines per level for word counts (3, ...)."""
    width = np.array(machine.line_words, dtype=float).reshape(3, *(1,) * (words.ndim - 1))
    return np.ceil(words / width)


def _prices(table: EnergyTable, pes: np.ndarray, dims: int) -> np.ndarray:
    """Price of a line per level (times the register files' instances), (3, [1,] B)."""
    rows = np.stack([table.rf_word * pes, np.full(pes.shape, table.glb_line), np.full(pes.shape, table.dram_line)])
    return rows[:, None, :] if dims == 3 else rows


def traffic(problem: Problem, counts: Accesses, mends: Mends) -> tuple[np.ndarray, ...]:
    """Reads, updates and fills as floats, after the mends that concern dense machines too."""
    reads, updates, fills = (a.astype(float) for a in (counts.reads, counts.updates, counts.fills))
    if mends.first_touch:
        fills[0, 2] -= counts.updates[0, 2] - counts.reads[0, 2]
        fills[1, 2] -= counts.tile[2, 2]
    if mends.clipped_halo:
        share = 1.0
        for axis, pad in zip(problem.tensors[1][:2], problem.padding, strict=True):
            length = extent(axis, problem.bounds)
            share *= (length - min(2 * pad, length - 1)) / length
        reads[1:, 1] *= share
        fills[:, 1] *= share
    return reads, updates, fills


def dense_energy(
    problem: Problem, counts: Accesses, pes: np.ndarray, machine: Machine, table: EnergyTable, mends: Mends = FAITHFUL
) -> Energy:
    """The same model without sparsity: no masks, no pointers (formula 6)."""
    words = np.sum(traffic(problem, counts, mends), axis=0)
    storage = _lines(words, machine) * _prices(table, pes, 3)
    zero = np.zeros(pes.shape)
    return Energy(storage, np.zeros((3, pes.size)), zero, np.full(pes.shape, table.mac * problem.macs))


def sparse_energy(
    problem: Problem, counts: Accesses, pes: np.ndarray, tile: SparseTile, density: float,
    machine: Machine, table: EnergyTable, mends: Mends = FAITHFUL, weight_density: float = 1.0,
) -> Energy:  # fmt: skip
    """Energy with a compressed sparse operand (formulas 7, 8, 10, 11); weight_density only serves sparse_writeback."""
    reads, updates, fills = traffic(problem, counts, mends)
    passes = counts.reads[:, 0] / counts.tile[2, 0]  # times each level hands out the whole operand
    rf_over = tile.rf_overflow * passes[0]
    glb_over = tile.glb_overflow * passes[1]
    reads[:, 0] *= density
    fills[:, 0] *= density
    reads[0, 0] -= rf_over
    fills[0, 0] -= tile.rf_overflow * passes[1] / pes
    reads[1, 0] -= glb_over
    fills[1, 0] -= tile.glb_overflow * passes[2]
    reads[0, 2] *= density
    updates[0, 2] *= density
    if mends.gated_reads:
        reads[0, 1] *= density
    if mends.sparse_writeback and problem.update:
        updates[2, 2] -= counts.tile[2, 2] * (1 - weight_density)
    prices = _prices(table, pes, 3)
    storage = _lines(reads + updates + fills, machine) * prices
    storage[0, 0] += np.ceil(rf_over) * table.glb_line * pes
    storage[1, 0] += np.ceil(glb_over / machine.line_words[1]) * table.dram_line
    words = _index_words(problem, counts, tile, machine, mends)
    index = _lines(words, machine) * _prices(table, pes, 2)
    sort = _sort_energy(problem, counts, tile, machine, table, mends)
    return Energy(storage, index, sort, np.full(pes.shape, table.mac * problem.macs * density * problem.padding_share))


def _index_words(
    problem: Problem, counts: Accesses, tile: SparseTile, machine: Machine, mends: Mends
) -> np.ndarray:  # fmt: skip
    """Mask bits and block pointers per level, in words, (3, B): formula 8."""
    words = np.zeros((3, tile.half.size))
    bits = machine.word_bits
    words[0] = counts.reads[0, 0] // bits + counts.fills[0, 0] // bits
    taps = problem.bounds[R] * problem.bounds[S]
    kernel = taps * -(-bits // taps) if mends.wide_blocks else taps
    blocks = (tile.half, tile.half if problem.update else np.full(tile.half.size, kernel))
    for level, block in enumerate(blocks, start=1):
        size = np.maximum(block, 1)
        pointed = (counts.reads[level, 0] // size + counts.fills[level, 0] // size) * (size + machine.pointer_bits)
        plain = counts.reads[level, 0] // bits + counts.fills[level, 0] // bits
        words[level] = np.where(block > 0, pointed / bits, plain)
    if mends.sparse_writeback and problem.update:
        depthwise = problem.shape == Shape.DEPTHWISE_UPDATE
        window = taps if depthwise else problem.bounds[P] * problem.bounds[Q]
        words[2] += counts.tile[2, 2] // window * (window + machine.pointer_bits) / bits
    return words


def _sort_energy(
    problem: Problem, counts: Accesses, tile: SparseTile, machine: Machine, table: EnergyTable, mends: Mends
) -> np.ndarray:  # fmt: skip
    """Pointer reads (and, mended, swaps) that balancing costs at the global buffer: formula 10."""
    passes = counts.reads[1, 0] // counts.tile[2, 0]
    halves = counts.tile[2, 0] // np.maximum(tile.half, 1)  # half-tiles of the whole operand
    pointers = np.where(tile.split, halves * 2 * passes, 0)
    pairs = np.ceil(pointers / machine.line_words[1])
    backward = problem.shape in (Shape.BACKWARD, Shape.DEPTHWISE_BACKWARD)
    if mends.sorting:
        swaps = np.where(tile.split, halves * np.log2(np.maximum(tile.wave_halves, 2)) * passes, 0)
        return (1.5 if backward else 1.0) * pairs * table.glb_line + swaps * 2 * table.rf_word
    if problem.shape == Shape.DEPTHWISE_UPDATE:
        return np.zeros(pairs.shape)
    return (1.5 * pairs if backward else pointers.astype(float)) * table.glb_line
