"""The one shape of a result: what was asked, where and when it was measured, and rows of numbers."""

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from procosm.world_model.files import read_json, write_json
from procosm.world_model.provenance import provenance

RESULTS = Path(__file__).resolve().parent / "results"


UNITS = {"milliseconds": "ms", "seconds": "s", "macs": "MAC"}


def flatten(found: dict[str, Any], task: str, metric: str = "") -> list[dict[str, Any]]:
    """Every number in nested findings as a row; lists of findings are told apart by the words in them."""
    rows: list[dict[str, Any]] = []
    for key, value in found.items():
        name = f"{metric} {key}".strip()
        if isinstance(value, dict):
            rows += flatten(value, task, name)
        elif isinstance(value, list):
            for each in (each for each in value if isinstance(each, dict)):
                words = {k: v for k, v in each.items() if isinstance(v, str)}
                rows += [row | words for row in flatten(each, task, metric)]
        elif isinstance(value, int | float) and not isinstance(value, bool):
            unit = next((unit for word, unit in UNITS.items() if word in name), "1")
            rows.append({"metric": name, "task": task, "value": value, "unit": unit})
    return rows


def record(
    benchmark: str, rows: Sequence[dict[str, Any]], folder: Path = RESULTS, details: dict[str, Any] | None = None
) -> Path:
    """Write ``NAME.json``: ``{benchmark, command, commit, date, hardware, versions, rows}``.

    Args:
        benchmark: the file's name, without its ending.
        rows: each with ``metric``, ``task``, ``value`` and ``unit``; further keys (seed, n, low, high) as they apply.
        folder: where the file goes.
        details: JSON values that make no rows, such as assumptions.
    """
    missing = [row for row in rows if not {"metric", "task", "value", "unit"} <= row.keys()]
    if missing:
        raise ValueError(f"a row needs metric, task, value and unit: {missing[0]}")
    origin = {k: v for k, v in provenance({}).items() if k != "configs"}
    path = folder / f"{benchmark}.json"
    write_json(
        path, {"benchmark": benchmark, **origin, "rows": list(rows), **({"details": details} if details else {})}
    )
    print(f"wrote {path}", file=sys.stderr)
    return path


def in_files(task: str) -> str:
    """A task as it is called in names of results: ``halfcheetah`` for HalfCheetah-v5."""
    return re.sub(r"-v\d+$", "", task).lower().replace("/", "_")


def publish(result: Path) -> str:
    """Copy a run's result, and the figure beside it, to ``RESULTS`` as NAME_<task>; returns <task>."""
    task = in_files(read_json(result)["rows"][0]["task"])
    shutil.copyfile(result, RESULTS / f"{result.stem}_{task}.json")
    if result.with_suffix(".png").exists():
        shutil.copyfile(result.with_suffix(".png"), RESULTS / "figures" / f"{result.stem}_{task}.png")
    return task
