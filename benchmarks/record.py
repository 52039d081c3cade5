"""The one shape of a result: what was asked, where and when it was measured, and rows of numbers."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from procosm.world_model.files import write_json
from procosm.world_model.provenance import provenance

RESULTS = Path(__file__).resolve().parent / "results"


def record(benchmark: str, rows: Sequence[dict[str, Any]], folder: Path = RESULTS) -> Path:
    """Write ``NAME.json``: ``{benchmark, command, commit, date, hardware, versions, rows}``.

    Args:
        benchmark: the file's name, without its ending.
        rows: each with ``metric``, ``task``, ``value`` and ``unit``; further keys (seed, n, low, high) as they apply.
    """
    missing = [row for row in rows if not {"metric", "task", "value", "unit"} <= row.keys()]
    if missing:
        raise ValueError(f"a row needs metric, task, value and unit: {missing[0]}")
    origin = {k: v for k, v in provenance({}).items() if k != "configs"}
    path = folder / f"{benchmark}.json"
    write_json(path, {"benchmark": benchmark, **origin, "rows": list(rows)})
    print(f"wrote {path}", file=sys.stderr)
    return path
