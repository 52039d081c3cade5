"""A mapping: how each loop bound is split over register file, array, global buffer and DRAM, and in which order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from procosm.sparse.accelerator.machine import Machine
from procosm.sparse.accelerator.problem import DIMENSIONS, Problem, spatial_dims
from procosm.sparse.errors import SparseError


@dataclass(frozen=True)
class Mapping:
    """Factors in the order RSPQCKN (rf * spatial * glb * dram = bound, no padding) and loop orders, innermost first."""

    rf: tuple[int, ...]
    spatial: tuple[int, ...]
    glb: tuple[int, ...]
    dram: tuple[int, ...]
    glb_order: str
    dram_order: str

    @property
    def pes(self) -> int:
        """PEs in use."""
        return math.prod(self.spatial)

    @property
    def wave_tile(self) -> tuple[int, ...]:
        """What the whole array holds at one moment."""
        return tuple(a * b for a, b in zip(self.rf, self.spatial, strict=True))

    @property
    def glb_tile(self) -> tuple[int, ...]:
        return tuple(a * b for a, b in zip(self.wave_tile, self.glb, strict=True))

    def check(self, problem: Problem) -> None:
        """Raise SparseError when factors do not multiply to the bounds or an order is no permutation."""
        for name in ("rf", "spatial", "glb", "dram"):
            factors = getattr(self, name)
            if len(factors) != 7 or not all(isinstance(f, int) and not isinstance(f, bool) and f > 0 for f in factors):
                raise SparseError(f"mapping: {name} factors {factors!r} must be 7 positive integers in order RSPQCKN")
        for index, letter in enumerate(DIMENSIONS):
            product = self.glb_tile[index] * self.dram[index]
            if product != problem.bounds[index]:
                raise SparseError(f"mapping: the factors of {letter} multiply to {product}, its bound is"
                                  f" {problem.bounds[index]}")  # fmt: skip
        for name in ("glb_order", "dram_order"):
            if sorted(getattr(self, name)) != sorted(DIMENSIONS):
                raise SparseError(f"mapping: {name} {getattr(self, name)!r} must be a permutation of {DIMENSIONS}")


def divisors(number: int) -> list[int]:
    """All divisors, ascending."""
    return [d for d in range(1, number + 1) if number % d == 0]


def spatial_factors(problem: Problem, dataflow: str, width: int) -> tuple[int, ...]:
    """Largest divisor of each spatially mapped bound that fits the array's width (accelerator.md, formula 2)."""
    factors = [1] * 7
    for dim in spatial_dims(problem, dataflow):
        factors[dim] = max(d for d in divisors(problem.bounds[dim]) if d <= width)
    return tuple(factors)


def padded(problem: Problem, dataflow: str, width: int) -> Problem:
    """Round spatially mapped bounds up where that saves steps: the corrected model's answer to exact divisors."""
    bounds = list(problem.bounds)
    for dim in spatial_dims(problem, dataflow):
        steps = math.ceil(bounds[dim] / width)
        best = max(d for d in divisors(bounds[dim]) if d <= width)
        if steps * best < bounds[dim]:
            bounds[dim] = steps * math.ceil(bounds[dim] / steps)
    return Problem(problem.shape, tuple(bounds), problem.update, problem.stride, problem.padding, problem.bounds)


def capacity(problem: Problem, mapping: Mapping, machine: Machine, density: float) -> None:
    """Raise SparseError when a tile does not fit: the sparse operand counts with its average footprint (formula 11)."""
    tiles = (("register file", mapping.rf, machine.rf_words), ("global buffer", mapping.glb_tile, machine.glb_words))
    for name, tile, words in tiles:
        need = footprint(problem.sizes(tile), density)
        if need > words:
            raise SparseError(f"mapping: {need} words do not fit the {name} of {words} words")


def footprint(sizes: Sequence[int], density: float) -> int:
    """Words of a tile: ceil(density * sparse operand) + the two dense operands."""
    return math.ceil(density * sizes[0]) + sizes[1] + sizes[2]
