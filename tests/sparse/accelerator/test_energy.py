"""Energies add up, tables are priced as their sources say, and each mend moves what it names."""

import json
import math

import numpy as np
import pytest

from procosm.sparse.accelerator.machine import TABLES, EnergyTable, Machine, energy_table
from procosm.sparse.accelerator.mapping import Mapping, padded
from procosm.sparse.accelerator.masks import bernoulli, problem_mask
from procosm.sparse.accelerator.mends import CORRECTED, FAITHFUL, Mends
from procosm.sparse.accelerator.problem import Layer, phase_problem
from procosm.sparse.accelerator.search import Sparsity, search
from procosm.sparse.accelerator.simulate import Setting, simulate_dense, simulate_sparse
from procosm.sparse.errors import SparseError

MACHINE = Machine()
PUBLIC = energy_table("public", MACHINE)
LAYER = Layer("conv", 14, 14, 64, 64, 3, 3, (1, 1))


def case(layer=LAYER, phase="fw", flow="KN", density=0.2):
    problem = phase_problem(layer, phase, 64)
    mask = problem_mask(problem, density)
    return problem, search(problem, flow, Setting(MACHINE, PUBLIC), Sparsity(float(mask.mean()), mask)), mask


@pytest.mark.parametrize("phase", ["fw", "bw", "wu"])
def test_energy_is_additive_and_linear_in_the_prices(phase):
    problem, mapping, mask = case(phase=phase)
    parts = np.zeros(3)
    for key in ("mac", "rf_word", "glb_line", "dram_line"):
        prices = dict.fromkeys(("mac", "rf_word", "glb_line", "dram_line"), 0.0) | {key: getattr(PUBLIC, key)}
        setting = Setting(MACHINE, EnergyTable("one", "u", source="test", **prices))
        outcomes = (simulate_dense(problem, mapping, setting), *simulate_sparse(problem, mapping, mask, setting))
        parts += [outcome.energy for outcome in outcomes]
    whole = Setting(MACHINE, PUBLIC)
    outcomes = (simulate_dense(problem, mapping, whole), *simulate_sparse(problem, mapping, mask, whole))
    np.testing.assert_allclose(parts, [outcome.energy for outcome in outcomes], rtol=1e-12)
    for outcome in outcomes:
        total = sum(map(sum, outcome.storage)) + sum(outcome.index) + outcome.sort + outcome.mac
        assert outcome.energy == pytest.approx(total, rel=1e-12)


def test_macs_follow_the_mask_and_cycles_never_beat_it():
    problem, mapping, mask = case()
    balanced, unbalanced = simulate_sparse(problem, mapping, mask, Setting(MACHINE, PUBLIC))
    uses = problem.macs // mask.size
    assert balanced.mac == pytest.approx(4.0 * mask.sum() * uses)
    ideal = mask.sum() * uses / mapping.pes
    dense = simulate_dense(problem, mapping, Setting(MACHINE, PUBLIC)).cycles
    assert ideal <= balanced.cycles <= unbalanced.cycles <= dense


def test_tables_and_their_sources():
    """The public table is the reference's; the others' anchors are the numbers their sources list."""
    assert PUBLIC.mac == 4 and PUBLIC.rf_word == pytest.approx(2.050251256281407)
    assert PUBLIC.glb_line == pytest.approx(29.628140703517587) and PUBLIC.dram_line == 800
    cache = [energy_table("horowitz45", Machine(glb_words=kib * 256)).glb_line for kib in (8, 32, 1024)]
    np.testing.assert_allclose(cache, [10, 20, 100], rtol=0.14)
    for name in TABLES:
        table = energy_table(name, MACHINE)
        assert table.source and 0 < table.rf_word < table.glb_line < table.dram_line
        assert energy_table(name, Machine.scaled(32)).glb_line >= table.glb_line


def test_a_users_table(tmp_path):
    path = tmp_path / "mine.json"
    entries = {"mac": 1, "rf_word": 2, "glb_line": 3, "dram_line": 4, "unit": "pJ", "source": "measured"}
    path.write_text(json.dumps(entries))
    assert energy_table(str(path), MACHINE) == EnergyTable("mine", **entries)
    for bad, message in (
        ("{", "not JSON"),
        ("{}", "mac is missing"),
        (json.dumps(entries | {"mac": -1}), "mac is -1"),
    ):
        path.write_text(bad)
        with pytest.raises(SparseError, match=message):
            energy_table(str(path), MACHINE)
    with pytest.raises(SparseError, match="'nowhere'"):
        energy_table("nowhere", MACHINE)
    with pytest.raises(SparseError, match="20 PEs"):
        Machine.scaled(20)


def outcomes(problem, mapping, mask, *mends):
    setting = Setting(MACHINE, PUBLIC, Mends.of(*mends))
    return simulate_dense(problem, mapping, setting), *simulate_sparse(problem, mapping, mask, setting, 0.2)


def test_mends_are_named():
    assert FAITHFUL.active == () and CORRECTED.active == Mends.names()
    with pytest.raises(SparseError, match="mend 'all'"):
        Mends.of("all")


@pytest.mark.parametrize(
    ("mend", "phase", "dense", "sparse"),
    [("gated_reads", "fw", 0, -1), ("first_touch", "fw", -1, -1), ("clipped_halo", "fw", -1, -1),
     ("sorting", "fw", 0, -1), ("sorting", "bw", 0, 1), ("sparse_writeback", "wu", 0, -1),
     ("sparse_writeback", "fw", 0, 0)],
)  # fmt: skip
def test_the_direction_of_a_mend(mend, phase, dense, sparse):
    problem, mapping, mask = case(phase=phase)
    before, after = (outcomes(problem, mapping, mask, *names) for names in ((), (mend,)))
    for index, sign in ((0, dense), (1, sparse)):
        assert np.sign(after[index].energy - before[index].energy) == sign
        assert after[index].cycles == before[index].cycles


def test_gated_reads_save_exactly_the_zero_operands():
    problem, mapping, mask = case()
    before, after = (outcomes(problem, mapping, mask, *names)[1] for names in ((), ("gated_reads",)))
    saved = PUBLIC.rf_word * problem.macs * (1 - mask.mean())
    assert before.energy - after.energy == pytest.approx(saved, rel=1e-6)


def test_wide_blocks_shrink_the_index_of_1x1_layers():
    problem, mapping, mask = case(Layer("pointwise", 7, 7, 64, 64))
    before, after = (outcomes(problem, mapping, mask, *names)[1] for names in ((), ("wide_blocks",)))
    assert after.index[2] / before.index[2] == pytest.approx((32 + 20) / 32 / 21, rel=1e-3)


def test_one_pe_gains_cycles_only_when_mended():
    problem = phase_problem(Layer("fc", 1, 1, 64, 64), "fw", 64)
    mapping = Mapping(
        (1, 1, 1, 1, 8, 8, 1), (1,) * 7, (1, 1, 1, 1, 8, 8, 1), (1, 1, 1, 1, 1, 1, 64), "CKRSPQN", "NCKRSPQ"
    )
    mask = problem_mask(problem, 0.2)
    before, after = (outcomes(problem, mapping, mask, *names) for names in ((), ("tiny_tiles",)))
    assert before[1].cycles == before[0].cycles == problem.macs
    assert after[1].cycles == math.ceil(problem.macs * mask.mean())


def test_overflow_is_free_in_balanced_mode_until_mended():
    # C cannot be cut (register factor 1), and 128 + 64 dense words leave 64 for tiles of 9 * 64 * 0.1 = 58 on average.
    problem = phase_problem(Layer("conv", 8, 8, 16, 64, 3, 3, (1, 1)), "fw", 64)
    mapping = Mapping(
        (3, 3, 2, 1, 1, 64, 1), (1, 1, 1, 1, 16, 1, 16), (1,) * 7, (1, 1, 4, 8, 1, 1, 4), "PQNKRSC", "PQNKRSC"
    )
    mask = bernoulli(problem.mask_shape, 0.1)
    tight = Machine(rf_words=200)
    free, paid = (simulate_sparse(problem, mapping, mask, Setting(tight, PUBLIC, Mends.of(*names)))
                  for names in ((), ("paid_overflow",)))  # fmt: skip
    assert free[0].energy < paid[0].energy == pytest.approx(paid[1].energy)
    assert free[1].energy == paid[1].energy


def test_padding_the_array_saves_cycles():
    problem = phase_problem(Layer("conv", 7, 7, 40, 40, 3, 3, (1, 1)), "fw", 64)
    wider = padded(problem, "CK", 16)
    setting = Setting(MACHINE, PUBLIC)
    cycles = [simulate_dense(p, search(p, "CK", setting), setting).cycles for p in (problem, wider)]
    assert cycles[0] / cycles[1] == pytest.approx((4 * 4) / (3 * 3))
    mask = problem_mask(wider, 0.2)
    sparse = simulate_sparse(wider, search(wider, "CK", setting, Sparsity(float(mask.mean()), mask)), mask, setting)[0]
    assert sparse.mac == pytest.approx(4 * problem.macs * problem_mask(problem, 0.2).mean())


def test_a_strided_layer_reads_its_true_input():
    layer = Layer("conv", 16, 16, 8, 8, 3, 3, (1, 1), (2, 2))
    assert phase_problem(layer, "fw", 1).sizes()[1] == 10 * 10 * 8
    assert phase_problem(layer, "fw", 1, strided=True).sizes()[1] == 17 * 17 * 8
