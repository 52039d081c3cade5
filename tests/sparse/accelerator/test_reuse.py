"""Loop-nest reuse against an interpreter that walks the nest and counts coordinates in Python sets."""

import itertools
import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from procosm.sparse.accelerator.mapping import Mapping, divisors
from procosm.sparse.accelerator.mends import Mends
from procosm.sparse.accelerator.problem import DIMENSIONS, Problem, Shape
from procosm.sparse.accelerator.reuse import Batch, accesses

NAMES = {
    Shape.FORWARD: (("R", "S", "C", "K"), ("PR", "QS", "C", "N"), ("P", "Q", "K", "N")),
    Shape.BACKWARD: (("R", "S", "C", "K"), ("PR", "QS", "K", "N"), ("P", "Q", "C", "N")),
    Shape.DEPTHWISE_FORWARD: (("R", "S", "C"), ("PR", "QS", "C", "N"), ("P", "Q", "C", "N")),
    Shape.DEPTHWISE_BACKWARD: (("R", "S", "C"), ("PR", "QS", "C", "N"), ("P", "Q", "C", "N")),
    Shape.DEPTHWISE_UPDATE: (("P", "Q", "C", "N"), ("PR", "QS", "C", "N"), ("R", "S", "C")),
}


def elements(axes, start, tile):
    """Coordinates a tensor's tile touches, one by one, from the operations it serves."""
    ranges = []
    for axis in axes:
        spans = [range(start[d], start[d] + tile[d]) for d in axis]
        ranges.append({sum(point) for point in itertools.product(*spans)})
    return set(itertools.product(*ranges))


class Resident:
    """One buffer's contents and the direction its window last slid in (formula 5)."""

    def __init__(self):
        self.held, self.direction = None, None

    def fetch(self, wanted):
        old, self.held = self.held, wanted
        if old is None:
            return wanted
        new = wanted - old
        if not new:
            self.direction = None
            return new
        corner, before = min(wanted), min(old)
        moved = [(i, (a > b) - (a < b)) for i, (a, b) in enumerate(zip(corner, before, strict=True)) if a != b]
        slides = len(moved) == 1 and len(new) < len(wanted)
        if not slides or (self.direction is not None and self.direction != moved[0]):
            self.direction = None
            return wanted
        self.direction = moved[0]
        return new


def walk(problem, mapping, every):
    """Fills per PE, words over the buffer's port and fills of the buffer, for each tensor.

    `every` visits all iterations; otherwise only iterations 0 (weight 1) and 1 (weight n - 1), as the authors do.
    """
    sizes = {name: dict(zip(DIMENSIONS, values, strict=True)) for name, values in
             (("rf", mapping.rf), ("wave", mapping.wave_tile), ("buffer", mapping.glb_tile),
              ("spatial", mapping.spatial), ("glb", mapping.glb), ("dram", mapping.dram))}  # fmt: skip
    inner = [(d, sizes["glb"][d], sizes["wave"][d]) for d in mapping.glb_order]
    outer = [(d, sizes["dram"][d], sizes["buffer"][d]) for d in mapping.dram_order]
    counts = []
    for axes in NAMES[problem.shape]:
        pes = list(itertools.product(*(range(sizes["spatial"][d]) for d in DIMENSIONS)))
        buffers = {pe: Resident() for pe in pes}
        fills, port = 0, 0
        for start, weight in iterate(inner + outer, every):
            deliveries = Counter()
            for pe in pes:
                at = {d: start[d] + pe[i] * sizes["rf"][d] for i, d in enumerate(DIMENSIONS)}
                got = buffers[pe].fetch(elements(axes, at, sizes["rf"]))
                fills += weight * len(got) if not any(pe) else 0
                deliveries[frozenset(got)] += 1
            port += weight * sum(len(got) for got in deliveries)  # equal deliveries are one multicast
        resident, buffered = Resident(), 0
        for start, weight in iterate(outer, every):
            buffered += weight * len(resident.fetch(elements(axes, start, sizes["buffer"])))
        counts.append((fills, port, buffered))
    return counts


def iterate(loops, every):
    """Start coordinates and weight of every visit, innermost loop first in `loops`."""
    for index in itertools.product(*(range(n if every else min(n, 2)) for _, n, _ in reversed(loops))):
        start, weight = dict.fromkeys(DIMENSIONS, 0), 1
        for i, (dim, n, step) in zip(reversed(index), loops, strict=True):
            start[dim] += i * step
            weight *= n - 1 if i == 1 and not every else 1
        yield start, weight


@st.composite
def nests(draw):
    """A small problem and a random mapping of it."""
    shape = draw(st.sampled_from(list(Shape)))
    bounds = [
        draw(st.sampled_from(choices))
        for choices in ((1, 2, 3), (1, 3), (1, 2, 4), (1, 4, 6), (1, 2, 4), (1, 3), (1, 4))
    ]
    if shape not in (Shape.FORWARD, Shape.BACKWARD):
        bounds[5] = 1
    levels = [[], [], [], []]
    letters = draw(st.sampled_from(["CK", "CN", "KN", "CP", "KP", "PQ", "PN", "RS", "NR"]))
    for letter, bound in zip(DIMENSIONS, bounds, strict=True):
        rf = draw(st.sampled_from(divisors(bound)))
        spatial = draw(st.sampled_from([d for d in divisors(bound // rf) if d <= 3])) if letter in letters else 1
        glb = draw(st.sampled_from(divisors(bound // rf // spatial)))
        for level, factor in zip(levels, (rf, spatial, glb, bound // rf // spatial // glb), strict=True):
            level.append(factor)
    orders = ["".join(draw(st.permutations(DIMENSIONS))) for _ in range(2)]
    return Problem(shape, tuple(bounds)), Mapping(*(tuple(level) for level in levels), *orders)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(nests())
def test_the_analysis_counts_what_the_interpreter_counts(nest):
    problem, mapping = nest
    mapping.check(problem)
    for every, mends in ((False, Mends()), (True, Mends.of("exact_halo"))):
        counts = accesses(problem, Batch.of(mapping), mends)
        walked = walk(problem, mapping, every)
        assert len(walked) == 3
        for tensor, (fills, port, buffered) in enumerate(walked):
            assert counts.fills[0, tensor, 0] == fills
            assert (counts.updates if tensor == 2 else counts.reads)[1, tensor, 0] == port
            assert counts.fills[1, tensor, 0] == buffered


@settings(max_examples=200, deadline=None, derandomize=True)
@given(nests())
def test_conservation(nest):
    problem, mapping = nest
    counts = accesses(problem, Batch.of(mapping))
    macs = math.prod(problem.bounds)
    assert counts.updates[0, 2, 0] * mapping.pes == macs == problem.macs
    whole = counts.tile[2, :, 0]
    # Every result is written once: what reaches DRAM less what was read back to go on with is the tensor itself.
    assert counts.updates[2, 2, 0] - counts.reads[2, 2, 0] == whole[2]
    assert counts.updates[1, 2, 0] - counts.reads[1, 2, 0] == whole[2]
    # Every element comes at least once, and a tile never outgrows the level above.
    assert (counts.fills[1, :, 0] >= whole).all()
    assert (counts.tile[0, :, 0] <= counts.tile[1, :, 0]).all() and (counts.tile[1, :, 0] <= whole).all()


def test_a_batch_is_its_rows():
    problem = Problem(Shape.FORWARD, (3, 3, 8, 8, 16, 16, 4))
    rows = []
    for glb, orders in (
        ((1, 1, 2, 4, 4, 2, 1), ("PQNKRSC", "CPQNRSK")),
        ((1, 1, 4, 1, 1, 4, 2), ("KPQNRSC", "RSCPQNK")),
    ):
        rf, spatial = (3, 3, 2, 1, 1, 1, 1), (1, 1, 1, 1, 4, 4, 1)
        dram = tuple(b // r // s // g for b, r, s, g in zip(problem.bounds, rf, spatial, glb, strict=True))
        rows.append(Mapping(rf, spatial, glb, dram, *orders))
    single = [Batch.of(row) for row in rows]
    both = Batch(*(np.concatenate([getattr(b, f) for b in single]) for f in Batch.__dataclass_fields__))
    together = accesses(problem, both)
    for index, batch in enumerate(single):
        alone = accesses(problem, batch)
        for kind in ("tile", "reads", "updates", "fills"):
            np.testing.assert_array_equal(getattr(together, kind)[..., index], getattr(alone, kind)[..., 0])
        assert both.mapping(index) == rows[index]


@pytest.mark.parametrize(("mended", "words"), [(False, 6 + 8 * 4 + 6), (True, 6 + 9 * 4)])
def test_a_window_that_slides_on_needs_only_its_new_rows(mended, words):
    # 3 taps, tiles of 4 rows out of 40: 6 input rows. The buffer's loop has 5 tiles, so extrapolating the fall-back
    # from its second iteration makes DRAM's step look like a jump.
    problem = Problem(Shape.FORWARD, (3, 1, 40, 1, 1, 1, 1))
    mapping = Mapping(
        (3, 1, 4, 1, 1, 1, 1), (1,) * 7, (1, 1, 5, 1, 1, 1, 1), (1, 1, 2, 1, 1, 1, 1), "PQNKRSC", "PQNKRSC"
    )
    fills = accesses(problem, Batch.of(mapping), Mends.of("exact_halo") if mended else Mends()).fills[0, 1, 0]
    assert fills == words
