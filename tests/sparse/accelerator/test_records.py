"""The authors' results: worked examples, a sample, and the full file that PROCOSM_ACCELERATOR_RECORDS names."""

import copy
import json
import math
import os
from pathlib import Path

import pytest

from procosm.sparse.accelerator.machine import Machine, energy_table
from procosm.sparse.accelerator.mapping import spatial_factors
from procosm.sparse.accelerator.masks import problem_mask
from procosm.sparse.accelerator.problem import DATAFLOWS, PHASES, Layer, phase_problem
from procosm.sparse.accelerator.recordfile import compare, read_records, stated_machine
from procosm.sparse.accelerator.records import evaluate_all, parse
from procosm.sparse.accelerator.simulate import Setting, simulate_dense, simulate_sparse
from procosm.sparse.errors import SparseError

SAMPLE = Path(__file__).with_name("reference_sample.json")
SETTING = Setting(Machine(), energy_table("public", Machine()))


@pytest.fixture(scope="module")
def raw():
    return read_records(SAMPLE)


def test_the_sample_is_reproduced(raw):
    summary = compare(raw, evaluate_all(raw, 64, SETTING))
    assert summary["records"] == summary["records_with_accesses"] == summary["records_with_equal_accesses"] == len(raw)
    assert summary["max_relative_energy_error"] < 1e-6
    assert summary["max_cycle_difference"] <= 1


@pytest.mark.slow
def test_the_whole_file_is_reproduced():
    path = os.environ.get("PROCOSM_ACCELERATOR_RECORDS")
    if not path:
        pytest.skip("set PROCOSM_ACCELERATOR_RECORDS to accelerator_reference.json")
    raw = read_records(Path(path))
    summary = compare(raw, evaluate_all(raw, 64, SETTING, processes=2))
    assert summary["records_with_equal_accesses"] == len(raw)
    assert summary["max_relative_energy_error"] < 1e-6 and summary["max_cycle_difference"] <= 1


def test_the_components_of_the_sample_are_reproduced(raw):
    checked = 0
    for number, record in enumerate(raw):
        if record["kind"] == "dense" or record["phase"] == "wu":
            continue
        parsed = parse(record, number, 64, SETTING)
        mask = problem_mask(parsed.problem, parsed.density)
        both = simulate_sparse(parsed.problem, parsed.mapping, mask, SETTING)
        for name, outcome in zip(("balanced", "unbalanced"), both, strict=True):
            for part, value in record[name]["energy"].items():
                assert outcome.parts[part] == pytest.approx(value, rel=1e-6, abs=0.06), (number, name, part)
            checked += 1
    assert checked > 40


def example(raw, letter):
    number = json.loads(SAMPLE.read_text())["readme"]["worked_examples"][letter]
    return parse(raw[number], number, 64, SETTING)


def test_worked_example_a(raw):
    """accelerator.md, example A: VGG-S Conv5_2, KN, forward, density 0.1; every figure from the text."""
    case = example(raw, "A")
    assert case.problem.macs == 603_979_776
    dense = simulate_dense(case.problem, case.mapping, SETTING)
    assert dense.cycles == 2_359_296
    rounded = [[round(v) for v in level] for level in dense.storage]
    assert rounded == [[1_547_887_868, 1_272_707_803, 2_476_620_589], [279_606_215, 31_067_357, 3_883_420],
                       [3_774_873_600, 419_430_400, 52_428_800]]  # fmt: skip
    assert round(dense.mac) == 2_415_919_104 and round(dense.energy) == 12_274_425_156
    balanced, unbalanced = simulate_sparse(case.problem, case.mapping, problem_mask(case.problem, 0.1), SETTING)
    assert [round(balanced.storage[0][i]) for i in (0, 2)] == [154_647_073, 247_676_650]
    assert round(balanced.storage[2][0]) == 377_140_800
    assert [round(v) for v in balanced.index] == [48_371_496, 9_344_479, 380_108_800]
    assert round(balanced.sort) == 1_941_710 and round(balanced.mac) == 241_370_112
    assert round(balanced.energy) == 3_268_053_851
    assert (balanced.cycles, unbalanced.cycles) == (247_249, 287_921)


def test_worked_example_b(raw):
    """accelerator.md, example B: ResNet18 Conv2_x, CN, backward, density 0.2."""
    case = example(raw, "B")
    dense = simulate_dense(case.problem, case.mapping, SETTING)
    assert (dense.cycles, round(dense.energy)) == (28_901_376, 114_883_562_059)
    balanced, unbalanced = simulate_sparse(case.problem, case.mapping, problem_mask(case.problem, 0.2), SETTING)
    assert (round(balanced.energy), round(unbalanced.energy)) == (49_861_797_831, 49_837_162_388)
    assert (balanced.cycles, unbalanced.cycles) == (6_409_984, 8_391_937)


def test_rows_keep_the_order_of_the_records(raw):
    some = [raw[i] for i in (40, 3, 77, 3)]
    rows = evaluate_all(some, 64, SETTING)
    assert [row["cycles_dense"] for row in rows] == [record["dense_cycles"] for record in some]
    assert rows[1] == rows[3]


@pytest.mark.parametrize("width", [16, 32])
@pytest.mark.parametrize(
    "dims",
    [[24, 24, 16, 1, 32, 3, 3, 1, 1, 1, 1], [21, 15, 33, 1, 9, 5, 3, 2, 1, 1, 1], [23, 23, 48, 1, 8, 3, 3, 1, 1, 2, 2],
     [14, 14, 40, 1, "D", 3, 3, 1, 1, 1, 1], [15, 9, 33, 1, "D", 3, 3, 1, 1, 2, 2],
     [1, 1, 96, 1, 10, 1, 1, 0, 0, 1, 1]],
    ids=["plain", "oblong", "strided", "depthwise", "odd depthwise", "linear"],
)  # fmt: skip
def test_any_layer_phase_and_dataflow(dims, width):
    """Records nobody stored, on the plainest mapping: what must hold for each of them."""
    machine = Machine.scaled(width)
    setting, made, problems = Setting(machine, energy_table("public", machine)), [], []
    for flow in DATAFLOWS:
        for phase in PHASES:
            problem = phase_problem(Layer.from_dims("any", dims), phase, 64)
            spatial = spatial_factors(problem, flow, width)
            rest = [bound // side for bound, side in zip(problem.bounds, spatial, strict=True)]
            rf = [size if dim < 2 and phase != "wu" else 1 for dim, size in enumerate(rest)]
            dram = [size // held for size, held in zip(rest, rf, strict=True)]
            made.append({"dims": dims, "dataflow": flow, "phase": phase, "density": 0.3, "RF": rf, "GLB": [1] * 7,
                         "DRAM": dram, "perm_GLB": "RSPQCKN", "perm_DRAM": "NKCQPSR"})  # fmt: skip
            problems.append(problem)
    for record, problem, row in zip(made, problems, evaluate_all(made, 64, setting), strict=True):
        pes = math.prod(spatial_factors(problem, record["dataflow"], width))
        assert row["cycles_dense"] * pes == problem.macs
        assert row["cycles_balanced"] <= row["cycles_unbalanced"] <= row["cycles_dense"]
        floor = setting.table.rf_word * problem.macs  # the dense operand is read for every MAC, zeros included
        assert row["energy_dense"] > 4 * problem.macs + 3 * floor
        assert min(row["energy_balanced"], row["energy_unbalanced"]) > floor
        memory = row["acc"]["DRAM"]
        assert memory["updates"][2] - memory["reads"][2] == problem.sizes()[2]


def test_the_machine_a_file_states(tmp_path):
    path = tmp_path / "records.json"
    whole = json.loads(SAMPLE.read_text())
    stated = {"PEs": [32, 32], "RF_words_per_PE": 256, "RF_word_bits": 32, "GLB_words": 65536, "batch_N": 8,
              "GLB_words_per_line": 2, "DRAM_words_per_line": 2}  # fmt: skip
    path.write_text(json.dumps({"readme": {"machine": stated}, "records": whole["records"]}))
    assert stated_machine(path) == (Machine.scaled(32), 8)
    path.write_text(json.dumps(whole["records"]))
    assert stated_machine(path) is None
    for bad in ({**stated, "PEs": [32, 16]}, {**stated, "batch_N": 0}, {"PEs": [16, 16]}, []):
        path.write_text(json.dumps({"readme": {"machine": bad}, "records": whole["records"]}))
        with pytest.raises(SparseError, match="machine stated"):
            stated_machine(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"RF": None}, "record 0: RF is missing"),
        ({"density": 0}, "density is 0"),
        ({"density": 1.5}, "density is 1.5"),
        ({"dataflow": "XY"}, "dataflow is 'XY'"),
        ({"GLB": [1, 1, 1]}, "GLB is [1, 1, 1]"),
        ({"GLB": [1, 1, 1, 1, 1, 1, 99]}, "the factors of P"),
        ({"perm_GLB": "PQPQPQP"}, "glb_order"),
        ({"bounds": [1] * 7}, "bounds"),
        ({"dims": [2, 2, 512]}, "dims is [2, 2, 512]"),
        ({"dims": [2, 2, -4, 1, 512, 3, 3, 1, 1, 1, 1]}, "dims.2"),
        ({"kind": "thin"}, "kind is 'thin'"),
    ],
)
def test_a_malformed_record_is_named(raw, change, message):
    record = copy.deepcopy(raw[0]) | change
    if change == {"RF": None}:
        del record["RF"]
    with pytest.raises(SparseError, match=r"record 0: ") as caught:
        evaluate_all([record], 64, SETTING)
    assert message in str(caught.value)


def test_a_tile_that_does_not_fit_is_named(raw):
    case = json.loads(json.dumps(raw[json.loads(SAMPLE.read_text())["readme"]["worked_examples"]["A"]]))
    case["RF"], case["DRAM"] = [3, 3, 2, 2, 64, 16, 1], [1, 1, 1, 1, 2, 2, 4]
    with pytest.raises(SparseError, match="do not fit the register file"):
        evaluate_all([case], 64, SETTING)


def test_files_that_hold_no_records(tmp_path):
    path = tmp_path / "records.json"
    with pytest.raises(SparseError, match="is not a file"):
        read_records(path)
    for text in ("{", "{}", "[]", '{"records": 3}'):
        path.write_text(text)
        with pytest.raises(SparseError, match="records: "):
            read_records(path)
