"""Utilisation, ideals, area and power against what can be counted by hand, and figures that show what they say."""

from dataclasses import replace

import pytest

from procosm.sparse.accelerator import breakdown, silicon
from procosm.sparse.accelerator.command import SWEEP, AcceleratorConfig, Groups, _others
from procosm.sparse.accelerator.machine import Machine, energy_table
from procosm.sparse.accelerator.mends import FAITHFUL
from procosm.sparse.accelerator.network import Densities, Result, Total, cases, run_cases
from procosm.sparse.accelerator.problem import PHASES
from procosm.sparse.accelerator.search import QUICK
from procosm.sparse.accelerator.simulate import Setting
from procosm.sparse.accelerator.workloads import Workload, network

MACHINE = Machine.scaled(16)
SETTING = Setting(MACHINE, energy_table("accelergy45", MACHINE), FAITHFUL)


@pytest.fixture(scope="module")
def work() -> Workload:
    """Two layers of VGG-S, one of which the array does not divide."""
    whole = network("vgg-s")
    return replace(whole, layers=[whole.layers[0], whole.layers[-2]])


@pytest.fixture(scope="module")
def results(work: Workload) -> list[Result]:
    return run_cases(cases(work, Densities(0.1, 0.5), "KN", SETTING, 16, None, QUICK), 1)


def test_a_dense_array_is_used_as_far_as_its_mappings_fill_it(results: list[Result]) -> None:
    # Without zeros nobody waits, so the share of cycles at work is the share of PEs that the mappings use.
    used = sum(r.dense.cycles * r.utilisation for r in results) / sum(r.dense.cycles for r in results)
    assert breakdown.utilisation(results, "dense", MACHINE.pes) == pytest.approx(used, rel=1e-12)


def test_zeros_leave_pes_waiting_and_half_tiles_fewer(results: list[Result]) -> None:
    dense, loose, paired = (breakdown.utilisation(results, m, 256) for m in ("dense", "unbalanced", "balanced"))
    assert 0 < loose < paired < dense <= 1


def test_no_phase_beats_its_density(results: list[Result]) -> None:
    for phase in PHASES:
        rows = [r for r in results if r.phase == phase]
        total = Total.of(rows)
        assert breakdown.ideal_cycles(rows) <= total.balanced_cycles <= total.unbalanced_cycles
        assert total.speedup <= 1 / min(r.density for r in rows)


def test_area_and_power_are_those_of_the_public_numbers(results: list[Result]) -> None:
    # 256 MACs of 1240 um2; 128 of the 108 KiB that take 1.03 mm2. A 32-wide array has four and two times as much.
    assert silicon.area_mm2(MACHINE) == pytest.approx({"MACs": 0.31744, "global buffer": 1.2207}, rel=1e-4)
    large = silicon.area_mm2(Machine.scaled(32))
    assert large["MACs"] == pytest.approx(4 * 0.31744) and large["global buffer"] == pytest.approx(2 * 1.2207, rel=1e-4)
    power = silicon.watts_per_100_mhz(results, SETTING.table)
    total = Total.of(results)
    assert power is not None and power["dense"] * total.dense_cycles / 1e8 == pytest.approx(total.dense * 1e-12)
    assert silicon.watts_per_100_mhz(results, energy_table("public", MACHINE)) is None


def test_groups_hold_what_was_asked_for_each(work: Workload) -> None:
    config = AcceleratorConfig(network="vgg-s", minibatch=16)
    mine = cases(work, Densities(0.1, 0.5), "KN", SETTING, 16)
    groups = Groups.of(config, mine, _others(config, work, Densities(0.1, 0.5), None))  # type: ignore[arg-type]
    for flow, found in groups.flows.items():
        assert {case.dataflow for case in found} == {flow}
    assert {side: {c.setting.machine.array_width for c in found} for side, found in groups.sides.items()} == {
        16: {16}, 32: {32}
    }  # fmt: skip
    assert tuple(groups.densities) == SWEEP
    for density, found in groups.densities.items():
        assert {case.density for case in found if case.phase != "wu"} == {density}


def test_figures_show_every_dataflow_phase_and_density(results: list[Result]) -> None:
    flows = {"CK": results, "KN": results}
    energy = breakdown.energy_by_dataflow(flows, "pJ", "energy").axes[0]
    tops = [sum(bar.get_height() for bar in energy.patches if abs(bar.get_x() + bar.get_width() / 2 - at) < 0.01)
            for at in (-0.2, 0.2)]  # fmt: skip
    assert tops[0] / tops[1] == pytest.approx(Total.of(results).energy_ratio)
    phases = breakdown.cycles_by_phase(results, "phases").axes[0]
    assert [label.get_text() for label in phases.get_xticklabels()] == ["forward", "backward", "weight update"]
    share = breakdown.working_share(flows, 256, "share").axes[0]
    heights = {round(bar.get_height(), 6) for bar in share.patches}
    assert round(100 * breakdown.utilisation(results, "balanced", 256), 6) in heights
    gains = breakdown.gain_by_density({0.1: results, 0.2: results}, "density").axes[0]
    assert [list(line.get_xdata()) for line in gains.lines] == [[10.0, 5.0]] * 5
