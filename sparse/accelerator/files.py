"""Writing results: a file appears whole or not at all."""

from __future__ import annotations

import csv
import io
import json
import os
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import Any

from procosm.sparse.errors import SparseError


def check_out(folder: Path, names: Collection[str]) -> None:
    """SparseError, before the work, where files cannot be written into a folder (which need not exist).

    ``names`` are those of the files to be written: a folder that holds any other is somebody else's.
    """
    place = Path(os.path.realpath(folder))
    there = next(path for path in (place, *place.parents) if path.exists())
    try:
        if not there.is_dir() or any(path.is_symlink() for path in (place, *place.parents)):
            raise NotADirectoryError(None, "there is something that is no folder")
        with tempfile.TemporaryFile(dir=there):
            pass
        foreign = sorted(path.name for path in place.glob("*") if path.name not in names and path.name[0] != ".")
    except OSError as error:
        raise SparseError(f"out {folder} cannot be written ({error.strerror}): give another --out") from error
    if foreign:
        raise SparseError(f"out {folder} holds {foreign[0]}, which is none of its results: give a folder of its own")


def write_bytes(path: Path, data: bytes) -> None:
    """Write to a temporary file in the same folder, flush it to disk, then rename."""
    Path(os.path.realpath(path.parent)).mkdir(parents=True, exist_ok=True)  # links may lead to what is not there
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Indented JSON with a final newline; SparseError where a number is not finite, which JSON has no word for."""
    try:
        text = json.dumps(value, indent=1, allow_nan=False)
    except ValueError as error:
        raise SparseError(f"{path} is not written: a number in it is not finite ({error})") from error
    write_bytes(path, (text + "\n").encode())


def write_csv(path: Path, rows: list[dict[str, Any]]) -> None:
    """A header and one line per row; all rows have the first one's keys."""
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())
