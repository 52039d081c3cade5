"""Accelerator records: the reference schema with one thing changed, evaluated and compared as the command does."""

import contextlib
import io
import json
from functools import partial
from pathlib import Path

import numpy as np

from procosm.sparse.accelerator.command import AcceleratorConfig, accelerate
from tests.fuzz.mutations import Case, drawn, json_texts

SAMPLE = Path(__file__).resolve().parents[2] / "sparse" / "accelerator" / "reference_sample.json"
SMALL = (29, 30, 36)
"""A dense record, a sparse one of weights and one of activations, all small."""


def evaluated(folder: Path, text: bytes, table: str = "public") -> None:
    """The command on a file; what it says of agreement must be about numbers."""
    path = folder / "records.json"
    path.write_bytes(text)
    config = AcceleratorConfig(evaluate=path, out=folder / "out", processes=1, energy_table=table)
    with contextlib.redirect_stderr(io.StringIO()), contextlib.redirect_stdout(io.StringIO()):
        accelerate(config)
    summary = json.loads((folder / "out" / "evaluation_summary.json").read_text())
    assert all(np.isfinite(value) for value in summary.values())


def document() -> dict:
    stored = json.loads(SAMPLE.read_text())
    return {"readme": {"what": "three"}, "records": [stored["records"][number] for number in SMALL]}


def wrong(path, kind):
    if kind == "unknown" or path[0] == "readme":
        return False
    if kind == "missing":
        return len(path) > 2 and path[2] in ("dims", "dataflow", "phase", "density", "RF", "GLB", "DRAM")
    if kind in ("size", "vast"):
        return path[-1] in ("dataflow", "phase", "kind", "shape") or (
            len(path) > 2 and path[2] in ("dims", "RF", "GLB", "DRAM", "spatial", "bounds") and kind == "vast"
        )
    return True


def cases(folder: Path) -> list[Case]:
    folder.mkdir(exist_ok=True)
    evaluated(folder, json.dumps(document()).encode())
    made = []
    for name, text, bad in json_texts(document(), wrong):
        if name != "list":
            made.append(Case(name, partial(evaluated, folder, text), bad))
    return drawn(made, 600, seed=4)
