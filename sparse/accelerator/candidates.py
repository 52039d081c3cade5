"""Candidate tiles and loop orders of a mapping search, with the bounds that rank them.

Rows are tilings, (M, 7) factors in the order RSPQCKN; costs are energies in the table's unit.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np

from procosm.sparse.accelerator.mapping import divisors
from procosm.sparse.accelerator.problem import P, Problem, Q, R, S
from procosm.sparse.accelerator.reuse import Loops, fills, spread, volume
from procosm.sparse.accelerator.simulate import Setting

_MOST_ROWS = 60_000  # tilings kept while enumerating; only bounds with very many divisors reach it


def relevance(problem: Problem) -> np.ndarray:
    """(3, 7): whether a tensor has a dimension."""
    table = np.zeros((3, 7), dtype=bool)
    for index, tensor in enumerate(problem.tensors):
        table[index, [dim for axis in tensor for dim, _ in axis]] = True
    return table


def orders(problem: Problem, rest: np.ndarray) -> np.ndarray:
    """Loop orders worth trying, innermost first, (O, 7).

    Dimensions relevant to the same tensors form a group; a tensor rests while a group without it is innermost, so the
    groups' order decides its reuse. Inside a group only a window axis placed first changes anything (its halo slides).
    """
    groups: dict[tuple, list[int]] = {}
    for dim in (P, Q, R, S, 4, 5, 6):
        if rest[dim] > 1:
            groups.setdefault(tuple(relevance(problem)[:, dim]), []).append(dim)
    idle = [dim for dim in range(7) if rest[dim] == 1]
    found = []
    for chosen in itertools.permutations(groups.values()):
        variants = [[group, *_rows_after_columns(group)] for group in chosen]
        found += [[*itertools.chain(*parts), *idle] for parts in itertools.product(*variants)]
    return np.unique(np.array(found, dtype=np.int64), axis=0)


def _rows_after_columns(group: list[int]) -> list[list[int]]:
    swap = {P: Q, Q: P, R: S, S: R}
    first, second = group[0], group[1] if len(group) > 1 else None
    return [[second, first, *group[2:]]] if second is not None and swap.get(first) == second else []


def tilings(
    problem: Problem, rest: np.ndarray, scale: np.ndarray, held: np.ndarray, words: int, density: float
) -> np.ndarray:
    """Divisors of `rest` whose tile, times `scale`, fits `words`; dimensions `held` keep all of `rest`."""
    rows = np.where(held, rest, 1)[None].astype(np.int64)
    free = sorted((dim for dim in range(7) if not held[dim] and rest[dim] > 1), key=lambda dim: -rest[dim])
    for dim in free:
        choices = np.array(divisors(int(rest[dim])), dtype=np.int64)
        rows = np.repeat(rows, len(choices), axis=0)
        rows[:, dim] = np.tile(choices, len(rows) // len(choices))
        sizes = [volume(tensor, rows * scale) for tensor in problem.tensors]
        rows = rows[np.ceil(density * sizes[0]) + sizes[1] + sizes[2] <= words]
        if len(rows) > _MOST_ROWS:  # keep the fullest: small tiles lose to their multiples; the smallest fits all
            ranked = np.argsort(-np.prod(rows.astype(float), axis=1), kind="stable")
            rows = rows[np.append(ranked[: _MOST_ROWS - 1], ranked[-1])]
    return rows


@dataclass(frozen=True)
class Costs:
    """Energy per word a tensor moves, (3,): into all register files together, over the buffer's port, to DRAM."""

    rf_fill: np.ndarray
    port: np.ndarray
    dram: np.ndarray

    @classmethod
    def of(cls, problem: Problem, setting: Setting, pes: int, density: float | None) -> Costs:
        """Density None is the dense machine; masks cost one bit per dense word, DRAM pointers as formula 8 says."""
        table, machine = setting.table, setting.machine
        word = np.array([table.rf_word * pes, table.glb_line / 2, table.dram_line / 2])
        first = np.ones(3) if density is None else np.full(3, density + 1 / machine.word_bits)
        if density is not None and not problem.update:
            block = problem.bounds[R] * problem.bounds[S]
            first[2] = density + (1 + machine.pointer_bits / block) / machine.word_bits
        both = np.stack([first, np.ones(3), np.array([1.0, 2.0, 2.0])], axis=1)  # results go out and come back
        rf_fill, port, dram = word[:, None] * both
        return cls(rf_fill, port, dram + word[1] * np.array([both[1, 0], 1.0, 1.0]))


def feed(problem: Problem, tile: np.ndarray, counts: np.ndarray, price: np.ndarray) -> np.ndarray:
    """Energy with which `counts` loops feed a tile when no tensor ever rests, by tensor, (3, M).

    The window's halo is taken as saved along its better axis, so the figure stays a lower bound.
    """
    words = np.stack([volume(tensor, tile) for tensor in problem.tensors]) * np.prod(counts, axis=1).astype(float)
    slide = np.ones(len(tile))
    for axis in problem.tensors[1][:2]:
        length = 1 + sum(step * (tile[:, dim] - 1) for dim, step in axis)
        for dim, step in axis:
            saved = (length + (counts[:, dim] - 1) * np.minimum(step * tile[:, dim], length)) / (
                counts[:, dim] * length
            )
            slide = np.minimum(slide, saved)
    words[1] *= slide
    return price[:, None] * words


def rests(problem: Problem, counts: np.ndarray) -> np.ndarray:
    """Iterations of the loops that leave each tensor in place, (3, M)."""
    still = ~relevance(problem)
    return np.stack([np.prod(np.where(still[t], counts, 1), axis=1) for t in range(3)])


def bound(cost: np.ndarray, runs: np.ndarray) -> np.ndarray:
    """Least energy when one tensor may rest for its `runs` iterations: costs and runs (3, ...)."""
    return cost.sum(axis=0) - (cost * (1 - 1 / runs)).max(axis=0)


def buffer_bound(
    problem: Problem, buffers: np.ndarray, rest: np.ndarray, spatial: np.ndarray, costs: Costs
) -> np.ndarray:
    """Least energy of DRAM and of filling the buffer for each buffer tile, (M,)."""
    counts = rest // buffers
    return bound(feed(problem, buffers * spatial, counts, costs.dram), rests(problem, counts))


def buffer_stage(
    problem: Problem, buffers: np.ndarray, rest: np.ndarray, spatial: np.ndarray, ways: np.ndarray, costs: Costs,
    each: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:  # fmt: skip
    """Buffer tiles with their `each` cheapest DRAM orders: tile rows, order rows, energy of DRAM and of the fills."""
    rows, way = np.repeat(buffers, len(ways), axis=0), np.tile(ways, (len(buffers), 1))
    loops = Loops.of(way, rest // rows, rows * spatial)
    cost = sum(
        p * fills(t, rows * spatial, loops).astype(float) for p, t in zip(costs.dram, problem.tensors, strict=True)
    )
    ranked = np.argsort(cost.reshape(len(buffers), -1), axis=1, kind="stable")[:, :each]
    best = (ranked + len(ways) * np.arange(len(buffers))[:, None]).ravel()
    return rows[best], way[best], cost[best]


def register_stage(
    problem: Problem, registers: np.ndarray, rest: np.ndarray, spatial: np.ndarray, costs: Costs
) -> np.ndarray:  # fmt: skip
    """Energy to feed every PE's register file and the buffer's port when no tensor rests, by tensor, (3, M)."""
    spreads = np.array([int(spread(tensor, spatial[None])[0]) for tensor in problem.tensors])
    return feed(problem, registers, rest // registers, costs.rf_fill + costs.port * spreads)


def joined_runs(
    problem: Problem, registers: np.ndarray, buffers: np.ndarray, ways: np.ndarray | None, rest: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """How long each tensor can rest in a register tile under a buffer tile, (3, buffers, registers), and which fit.

    A tensor rests through the buffer's loops without it, and on through DRAM loops when no other buffer loop runs;
    without DRAM orders (`ways` None) through the most DRAM loops any order allows.
    """
    fits = np.ones((len(buffers), len(registers)), dtype=bool)
    for dim in np.flatnonzero(rest > 1):
        fits &= buffers[:, dim, None] % registers[:, dim] == 0
    inner = rests(problem, buffers)[:, :, None] / rests(problem, registers)[:, None, :]
    loops = np.prod(buffers, axis=1)[:, None] / np.prod(registers, axis=1)
    onward = np.where(loops == inner, _outer_runs(problem, rest // buffers, ways)[:, :, None], 1)
    return np.maximum(inner * onward, 1), fits


def _outer_runs(problem: Problem, counts: np.ndarray, ways: np.ndarray | None) -> np.ndarray:
    """DRAM iterations before the first loop that moves each tensor, (3, M)."""
    if ways is None:
        return rests(problem, counts)
    ordered = np.take_along_axis(counts, ways, axis=1)
    runs = []
    for tensor in relevance(problem):
        begun = np.logical_or.accumulate(tensor[ways] & (ordered > 1), axis=1)
        runs.append(np.prod(np.where(begun, 1, ordered), axis=1))
    return np.stack(runs)
