"""A file of the reference schema: its records, the machine it states, and how results compare with those it stores."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from procosm.sparse.accelerator.machine import Machine
from procosm.sparse.errors import SparseError


def _content(path: Path) -> Any:
    if not path.is_file():
        raise SparseError(f"records: {path} is not a file")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SparseError(f"records: {path} is not JSON: {error}") from error


def read_records(path: Path) -> list[dict[str, Any]]:
    """The raw records of a file: a list, or an object with a list under `records`."""
    raw = _content(path)
    rows = raw.get("records") if isinstance(raw, dict) else raw
    if not isinstance(rows, list) or not rows:
        raise SparseError(f"records: {path} must hold a list of records, or one under the key 'records'")
    return rows


def stated_machine(path: Path) -> tuple[Machine, int] | None:
    """Machine and minibatch under `readme`, `machine` of a file of records; None when it states none."""
    raw = _content(path)
    readme = raw.get("readme") if isinstance(raw, dict) else None
    stated = readme.get("machine") if isinstance(readme, dict) else None
    if stated is None:
        return None
    from procosm.sparse.accelerator.schema import StatedMachine, checked

    found = checked(StatedMachine, stated, f"records: the machine stated in {path}")
    if found["PEs"][0] != found["PEs"][1]:
        raise SparseError(f"records: the machine stated in {path} has {found['PEs']} PEs: the array must be square")
    lines = (1, found["GLB_words_per_line"], found["DRAM_words_per_line"])
    width, words = found["PEs"][0], found["RF_words_per_PE"]
    return Machine(width, words, found["GLB_words"], found["RF_word_bits"], lines), found["batch_N"]


def compare(raw: list[dict[str, Any]], rows: list[dict[str, Any]]) -> dict[str, Any]:
    """How far the rows are from the results stored in the records, over those that have them.

    The records have been read by ``records.parse``: what they store are numbers, and energies above zero.
    """
    energy, cycles, equal, cases, stored_results = 0.0, 0, 0, 0, 0
    for record, row in zip(raw, rows, strict=True):
        pairs = [(row["energy_dense"], record.get("total_dense_pJ"))]
        for mode in ("balanced", "unbalanced"):
            stored = record.get(mode)
            if isinstance(stored, dict) and {"total_pJ", "cycles"} <= stored.keys():
                pairs.append((row[f"energy_{mode}"], stored["total_pJ"]))
                cycles = max(cycles, abs(row[f"cycles_{mode}"] - stored["cycles"]))
        stored_results += any(value for _, value in pairs)
        energy = max([energy, *(abs(mine / value - 1) for mine, value in pairs if value)])
        cycles = max(cycles, abs(row["cycles_dense"] - record.get("dense_cycles", row["cycles_dense"])))
        if "acc" in record:
            cases += 1
            equal += record["acc"] == row["acc"]
    return {"records": len(raw), "records_with_results": stored_results, "max_relative_energy_error": energy,
            "max_cycle_difference": cycles, "records_with_accesses": cases,
            "records_with_equal_accesses": equal}  # fmt: skip
