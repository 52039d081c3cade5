"""The search: valid mappings, no worse than the stored ones, and the true optimum where all can be tried."""

import itertools
from pathlib import Path

import numpy as np
import pytest

from procosm.sparse.accelerator.candidates import orders
from procosm.sparse.accelerator.energy import dense_energy
from procosm.sparse.accelerator.machine import Machine, energy_table
from procosm.sparse.accelerator.mapping import Mapping, capacity, divisors, footprint, spatial_factors
from procosm.sparse.accelerator.masks import problem_mask
from procosm.sparse.accelerator.problem import DIMENSIONS, Problem, Shape
from procosm.sparse.accelerator.recordfile import read_records
from procosm.sparse.accelerator.records import parse
from procosm.sparse.accelerator.reuse import Batch, accesses
from procosm.sparse.accelerator.search import Sparsity, search
from procosm.sparse.accelerator.simulate import Setting, simulate_dense, simulate_sparse
from procosm.sparse.errors import SparseError

SAMPLE = Path(__file__).with_name("reference_sample.json")
SETTING = Setting(Machine(), energy_table("public", Machine()))


def test_no_worse_than_the_stored_mappings():
    raw = read_records(SAMPLE)
    for number in range(0, len(raw), 3):
        record = parse(raw[number], number, 64, SETTING)
        problem, flow = record.problem, raw[number]["dataflow"]
        if record.sparse:
            mask = problem_mask(problem, record.density)
            found = search(problem, flow, SETTING, Sparsity(float(mask.mean()), mask))
            capacity(problem, found, SETTING.machine, float(mask.mean()))
            mine, stored = (simulate_sparse(problem, m, mask, SETTING)[0].edp for m in (found, record.mapping))
        else:
            found = search(problem, flow, SETTING)
            capacity(problem, found, SETTING.machine, 1.0)
            mine, stored = (simulate_dense(problem, m, SETTING).edp for m in (found, record.mapping))
        found.check(problem)
        assert mine <= stored * (1 + 1e-12), number


def every_mapping(problem, flow, machine):
    """All tilings that fit, each with all orders of both levels."""
    spatial = spatial_factors(problem, flow, machine.array_width)
    choices = []
    for dim, (bound, side) in enumerate(zip(problem.bounds, spatial, strict=True)):
        rest = bound // side
        splits = [(r, g, rest // r // g) for r in divisors(rest) for g in divisors(rest // r)]
        choices.append([(rest, 1, 1)] if dim < 2 and not problem.update else splits)
    active = [d for d in range(7) if problem.bounds[d] // spatial[d] > 1]
    ways = ["".join(DIMENSIONS[d] for d in (*way, *(d for d in range(7) if d not in active)))
            for way in itertools.permutations(active)]  # fmt: skip
    for split in itertools.product(*choices):
        rf, glb, dram = (tuple(s[level] for s in split) for level in range(3))
        tile = Mapping(rf, spatial, glb, dram, DIMENSIONS, DIMENSIONS)
        if (
            footprint(problem.sizes(rf), 1) <= machine.rf_words
            and footprint(problem.sizes(tile.glb_tile), 1) <= machine.glb_words
        ):
            yield from (Mapping(rf, spatial, glb, dram, a, b) for a in ways for b in ways)


@pytest.mark.parametrize(
    ("shape", "bounds", "flow", "update"),
    [
        (Shape.FORWARD, (3, 1, 4, 1, 4, 4, 1), "CN", False),
        (Shape.BACKWARD, (3, 3, 1, 4, 2, 8, 2), "KN", False),
        (Shape.FORWARD, (4, 1, 3, 1, 4, 2, 1), "CK", True),
        (Shape.DEPTHWISE_UPDATE, (3, 1, 4, 1, 4, 1, 4), "PN", True),
    ],
)
def test_the_optimum_of_small_problems(shape, bounds, flow, update):
    machine = Machine(array_width=2, rf_words=24, glb_words=96)
    setting = Setting(machine, energy_table("public", Machine()))
    problem = Problem(shape, bounds, update)
    mappings = list(every_mapping(problem, flow, machine))
    batch = [Batch.of(m) for m in mappings]
    stacked = Batch(*(np.concatenate([getattr(b, f) for b in batch]) for f in Batch.__dataclass_fields__))
    energies = dense_energy(problem, accesses(problem, stacked), stacked.pes, machine, setting.table).total
    found = simulate_dense(problem, search(problem, flow, setting), setting).energy
    assert found <= energies.min() * (1 + 1e-12)


def test_orders_cover_the_energies_of_all_permutations():
    """Sets of fills per tensor reachable by group orders contain the best of all permutations, tensor by tensor."""
    problem = Problem(Shape.FORWARD, (3, 3, 4, 4, 4, 2, 2))
    held = np.array((3, 3, 1, 1, 1, 1, 1))  # whole kernels stay below the loops
    rest = np.array(problem.bounds) // held
    chosen = orders(problem, rest)
    assert len(chosen) <= 24 and all(sorted(row) == list(range(7)) for row in chosen.tolist())

    def best(ways):
        rows = np.array(ways)
        ones = np.ones_like(rows)
        batch = Batch(
            ones * held, ones, ones, np.tile(rest, (len(rows), 1)), np.tile(np.arange(7), (len(rows), 1)), rows
        )
        return accesses(problem, batch).fills[1].min(axis=1)

    np.testing.assert_array_equal(best(chosen), best(list(itertools.permutations(range(7)))))


def test_a_layer_that_does_not_fit_is_named():
    kernel = Problem(Shape.FORWARD, (15, 15, 4, 4, 2, 2, 2))
    with pytest.raises(SparseError, match="15x15 kernel"):
        search(kernel, "CN", SETTING)
    search(kernel, "CN", SETTING, Sparsity(0.1, None))  # sparse, the same kernel fits
