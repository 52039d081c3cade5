"""`procosm accelerator`: what the Procrustes machine would spend on training a network sparsely."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from procosm.sparse.accelerator import breakdown, figures, report, silicon
from procosm.sparse.accelerator.files import check_out, write_bytes, write_csv, write_json
from procosm.sparse.accelerator.machine import Machine, energy_table
from procosm.sparse.accelerator.masks import checkpoint_masks, match
from procosm.sparse.accelerator.mends import CORRECTED, FAITHFUL, Mends
from procosm.sparse.accelerator.network import Case, Densities, Result, Total, cases, run_cases
from procosm.sparse.accelerator.problem import DATAFLOWS
from procosm.sparse.accelerator.recordfile import compare, read_records, stated_machine
from procosm.sparse.accelerator.records import evaluate_all
from procosm.sparse.accelerator.search import QUICK
from procosm.sparse.accelerator.simulate import Setting
from procosm.sparse.accelerator.workloads import Workload, network
from procosm.sparse.accelerator.workloads.trace import from_factory
from procosm.sparse.errors import SparseError

WRITTEN = (
    *("evaluation.json", "evaluation.csv", "evaluation_summary.json", "results.json", "results.csv"),
    *("energy.png", "imbalance.png", "phases.png"),
    *("cycles.png", "pes.png", "dataflow_energy.png", "utilisation.png", "density.png"),
)
"""Names of all that any of its runs writes."""
SWEEP = (0.05, 0.1, 0.2, 0.4, 0.8)
"""Densities beside the one that was asked for, of the figure that shows the gain by density."""


@dataclass(frozen=True)
class AcceleratorConfig:
    """Cycles and energy of one training step on the Procrustes machine (arXiv 2009.10976), dense and sparse."""

    network: str | None = None
    """vgg-s, densenet, wrn-28-10, resnet18 or mobilenetv2."""
    model: str | None = None
    """Your own network instead: package.module:factory, returning (torch module, tuple of example inputs)."""
    evaluate: Path | None = None
    """Instead of searching, recompute the records of a JSON file on their stored mappings, on the machine it states."""
    out: Path = Path("accelerator")
    """Folder for JSON, CSV and figures."""
    density: float = 0.1
    """Share of the weights that is kept, in every layer."""
    activation_density: float | None = None
    """Share of non-zero activations in the weight update; default 0.5, with --model what the example inputs show."""
    masks: Path | None = None
    """A training run (folder or *.safetensors file) whose zeros are the weight masks; the rest keeps --density."""
    dataflow: Literal["CK", "CN", "KN", "CP", "KP", "PQ", "PN"] = "KN"
    """The two loop dimensions laid out over the array."""
    pes: Literal[16, 32] = 16
    """PEs on a side of the square array; 32 doubles the global buffer."""
    minibatch: int = 64
    """Samples per training step."""
    energy_table: str = "public"
    """public, horowitz45, accelergy45, eyeriss65, or a JSON file: mac, rf_word, glb_line, dram_line, unit, source."""
    variant: Literal["faithful", "corrected"] = "faithful"
    """The authors' model with its quirks, or with its known defects mended."""
    mends: tuple[str, ...] = ()
    """Mend only these of the faithful model: tiny_tiles, paid_overflow, sorting, sparse_writeback, gated_reads,
    wide_blocks, padded_array, own_budget, exact_halo, clipped_halo, first_touch, strided_input."""
    seed: int = 0
    """Seed of the Bernoulli masks; 0 gives those of the reference records."""
    compare: bool = True
    """Also run the other dataflows, the other array size and other densities, for five of the figures."""
    processes: int = 2
    """Worker processes."""


def accelerate(config: AcceleratorConfig) -> Path:
    """Run one command: print a table, write the results to config.out and return that folder.

    Raises SparseError naming the bad value, layer or record.
    """
    chosen = [name for name in ("network", "model", "evaluate") if getattr(config, name) is not None]
    if len(chosen) != 1:
        raise SparseError(f"give exactly one of --network, --model and --evaluate, not {len(chosen)}")
    for name, low, high in (("minibatch", 1, 2**16), ("processes", 1, 1024), ("seed", 0, 2**32 - 1)):
        if not low <= getattr(config, name) <= high:
            raise SparseError(f"{name} {getattr(config, name)} must lie in [{low}, {high}]")
    for name in ("density", "activation_density"):
        value = getattr(config, name)
        if value is not None and not 0 < value <= 1:
            raise SparseError(f"{name} {value} must lie in (0, 1]")
    check_out(config.out, WRITTEN)
    if config.evaluate is not None:
        return _evaluate(config, config.evaluate)
    if config.model is not None:
        return _simulate(config, from_factory(config.model))
    assert config.network is not None  # one of the three is given
    return _simulate(config, network(config.network))


def setting(config: AcceleratorConfig, machine: Machine | None = None) -> Setting:
    """Machine (by default the config's), energy table and mends."""
    if config.mends and config.variant == "corrected":
        raise SparseError("--variant corrected mends everything; give --mends with the faithful variant")
    machine = machine or Machine.scaled(config.pes)
    mends = CORRECTED if config.variant == "corrected" else Mends.of(*config.mends) if config.mends else FAITHFUL
    return Setting(machine, energy_table(config.energy_table, machine), mends)


def _evaluate(config: AcceleratorConfig, stored: Path) -> Path:
    raw, stated = read_records(stored), stated_machine(stored)
    machine, minibatch = stated or (Machine.scaled(config.pes), config.minibatch)
    rows = evaluate_all(raw, minibatch, setting(config, machine), config.processes)
    summary = compare(raw, rows)
    write_json(config.out / "evaluation.json", rows)
    write_csv(config.out / "evaluation.csv", [{k: v for k, v in row.items() if k != "acc"} for row in rows])
    write_json(config.out / "evaluation_summary.json", summary)
    print(f"{machine.array_width}x{machine.array_width} PEs, minibatch {minibatch}"
          f"{', as the file states' if stated else ''}")  # fmt: skip
    print(_agreement(summary))
    print(f"wrote {config.out / 'evaluation.json'} (one row per record, in order), .csv and _summary.json")
    return config.out


def _agreement(summary: dict[str, Any]) -> str:
    if not summary["records_with_results"]:
        return f"{summary['records']} records, none of which stores results to compare with"
    return (f"{summary['records']} records; against the results stored in {summary['records_with_results']} of them:"
            f" largest energy error {summary['max_relative_energy_error']:.1e}, largest cycle difference"
            f" {summary['max_cycle_difference']}, accesses equal in {summary['records_with_equal_accesses']} of"
            f" {summary['records_with_accesses']}")  # fmt: skip


def _simulate(config: AcceleratorConfig, workload: Workload) -> Path:
    masks = match(workload.layers, checkpoint_masks(config.masks)) if config.masks is not None else None
    activations = 0.5 if config.activation_density is None and config.network is not None else config.activation_density
    densities = Densities(config.density, activations, config.seed)
    main = cases(workload, densities, config.dataflow, setting(config), config.minibatch, masks)
    others = _others(config, workload, densities, masks) if config.compare else []
    results = run_cases(main + others, config.processes, workload.name)
    mine, rest = results[: len(main)], results[len(main) :]
    title = _title(config, workload, masks, mine)
    here = setting(config)
    print("\n" + report.text(title, mine, here.table.unit))
    print(silicon.text(mine, here.machine, here.table) + "\n")
    if workload.left_out:
        print(f"left out, because no layer here has them: {', '.join(workload.left_out)}")
    _write(config, workload, mine, Groups.of(config, mine, rest), title, masks)
    return config.out


def _others(config: AcceleratorConfig, workload: Workload, densities: Densities, masks: Any) -> list[Case]:
    """Every other dataflow, the other array size, then other densities (of random masks)."""
    found: list[Case] = []
    for flow in DATAFLOWS:
        if flow != config.dataflow:
            found += cases(workload, densities, flow, setting(config), config.minibatch, masks, QUICK)
    other = replace(config, pes=16 if config.pes == 32 else 32)
    found += cases(workload, densities, config.dataflow, setting(other), config.minibatch, masks, QUICK)
    for density in _sweep(config):
        thinner = replace(densities, weights=density)
        found += cases(workload, thinner, config.dataflow, setting(config), config.minibatch, None, QUICK)
    return found


def _sweep(config: AcceleratorConfig) -> list[float]:
    """Densities to run beside the config's; its own too where masks stand in its place."""
    return [density for density in SWEEP if density != config.density or config.masks is not None]


@dataclass(frozen=True)
class Groups:
    """Results by dataflow, by array side and by density, in the order the figures show them."""

    flows: dict[str, Sequence[Result]]
    sides: dict[int, Sequence[Result]]
    densities: dict[float, Sequence[Result]]

    @classmethod
    def of(cls, config: AcceleratorConfig, mine: Sequence[Result], rest: Sequence[Result]) -> Groups:
        """Cut up what ``_others`` asked for; the command's own results alone where that is nothing."""
        own: dict[float, Sequence[Result]] = {} if config.masks is not None else {config.density: mine}
        if not rest:
            return cls({config.dataflow: mine}, {config.pes: mine}, own)
        groups = [rest[start : start + len(mine)] for start in range(0, len(rest), len(mine))]
        others = [flow for flow in DATAFLOWS if flow != config.dataflow]
        flows = dict(zip(others, groups, strict=False)) | {config.dataflow: mine}
        sides = {config.pes: mine, 48 - config.pes: groups[len(others)]}
        densities = own | dict(zip(_sweep(config), groups[len(others) + 1 :], strict=True))
        return cls(
            {flow: flows[flow] for flow in DATAFLOWS}, dict(sorted(sides.items())), dict(sorted(densities.items()))
        )


def _title(config: AcceleratorConfig, workload: Workload, masks: Any, results: Sequence[Result]) -> str:
    model = "corrected model" if config.variant == "corrected" else "authors' model"
    mended = f", mended: {', '.join(config.mends)}" if config.mends else ""
    weights = f"weight density {config.density:g}"
    if config.masks is not None:
        weights = f"masks of {len(masks)} layers from {config.masks.name}"
    found = sorted(r.density for r in results if r.phase == "wu")
    low, high = f"{found[0]:.2f}", f"{found[-1]:.2f}"
    activations = f"activation density {low}" if low == high else f"activation densities {low} to {high}"
    return (f"{workload.name} on {config.pes}x{config.pes} PEs, dataflow {config.dataflow}, {weights}, {activations},\n"
            f"minibatch {config.minibatch}, {config.energy_table} energies, {model}{mended}")  # fmt: skip


def assumptions(config: AcceleratorConfig, workload: Workload, results: Sequence[Result]) -> list[str]:
    """What the figures rest on, in sentences."""
    table = setting(config).table
    activation = [r.density for r in results if r.phase == "wu"]
    return [
        f"energies in {table.unit}: {table.source}",
        f"{workload.macs / 1e6:.1f}M dense MACs and {workload.weights / 1e6:.2f}M weights per sample and phase",
        f"activation densities in the weight update {min(activation):.2f} to {max(activation):.2f}",
        f"area: {silicon.AREA_SOURCE}; the paper's clock is not public",
        "no bandwidth limit, no wire, adder or address energy, psums dense outside the register files",
        "strided layers of the five tables are run at output resolution, down-sampling convolutions left out",
        "the dense machine has its own mappings from the same search, without masks, pointers or sorting",
        *(f"left out, because no layer here has it: {name}" for name in workload.left_out),
    ]


def _write(
    config: AcceleratorConfig, workload: Workload, results: Sequence[Result], groups: Groups, title: str, masks: Any,
) -> None:  # fmt: skip
    here, out = setting(config), config.out
    plain = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(config).items()}

    def totals(group: dict[Any, Sequence[Result]]) -> dict[str, dict[str, float]]:
        return {str(key): report.total_row(Total.of(rows)) for key, rows in group.items()}

    write_json(out / "results.json", {
        "title": title, "config": plain, "assumptions": assumptions(config, workload, results),
        "mends": here.mends.active, "masked_layers": sorted(masks or ()),
        "phases": {phase: report.total_row(total) for phase, total in report.by_phase(results).items()},
        "dataflows": totals(groups.flows), "pes": totals(groups.sides), "densities": totals(groups.densities),
        "utilisation": {flow: {mode: breakdown.utilisation(rows, mode, here.machine.pes) for mode in report.MODES}
                        for flow, rows in groups.flows.items()},
        "ideal_cycles": breakdown.ideal_cycles(results),
        "area_mm2": silicon.area_mm2(here.machine), "area_unknown": silicon.UNKNOWN,
        "watts_per_100_mhz": silicon.watts_per_100_mhz(results, here.table),
        "layers": [report.layer_row(result) for result in results],
    })  # fmt: skip
    write_csv(out / "results.csv", report.table_rows(results))
    drawn = _figures(config, workload.name, results, groups)
    for stem, figure in drawn.items():
        write_bytes(out / f"{stem}.png", figures.save(figure, stem))
    print(f"wrote {out}/results.json, results.csv and {', '.join(f'{stem}.png' for stem in drawn)};"
          " try --variant corrected, or --energy-table horowitz45")  # fmt: skip


def _figures(config: AcceleratorConfig, name: str, results: Sequence[Result], groups: Groups) -> dict[str, Any]:
    """Every figure by the stem of its file; those that compare where there is something to compare."""
    here, mine = setting(config), f"{name}, {config.dataflow}"
    unit = here.table.unit
    drawn = {"energy": figures.energy(results, unit, f"{mine}: energy by level and phase"),
             "phases": breakdown.cycles_by_phase(results, f"{mine}: cycles by phase"),
             "imbalance": figures.imbalance(results, f"{mine}: load imbalance of waves")}  # fmt: skip
    if not config.compare:
        return drawn
    flows = {flow: Total.of(rows) for flow, rows in groups.flows.items()}
    sides = {side: Total.of(rows) for side, rows in groups.sides.items()}
    return drawn | {
        "cycles": figures.dataflows(flows, config.dataflow, f"{name}: cycles by dataflow"),
        "dataflow_energy": breakdown.energy_by_dataflow(groups.flows, unit, f"{name}: energy by dataflow"),
        "utilisation": breakdown.working_share(groups.flows, here.machine.pes, f"{name}: utilisation by dataflow"),
        "density": breakdown.gain_by_density(groups.densities, f"{mine}: gain by density of random masks"),
        "pes": figures.array_sizes(sides, unit, f"{mine}: array size"),
    }
