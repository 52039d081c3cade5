"""Stages of a run that are done once: each leaves a record of its settings, its inputs and its time.

``RUN/stages/NAME.json`` holds ``{config, inputs, finished, seconds, sessions}``. A finished stage is not run again; one
whose settings or inputs changed is an error that names the difference, because nothing here deletes what took hours.
"""

import contextlib
import csv
import dataclasses
import glob
import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from procosm.world_model.files import read_json, write_bytes, write_json
from procosm.world_model.folders import files, named
from procosm.world_model.interface import CheckpointError, ProcosmError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

UNCOMPARED = {"processes", "device", "trust_pickle"}
"""Settings that change no result but its rounding."""
Config = TypeVar("Config", bound="DataclassInstance")


class StageError(ProcosmError):
    """A stage was begun with other settings, or on other inputs, than it is asked to go on with."""


def run_stage(
    folder: Path,
    config: Config,
    function: Callable[[Config], Path],
    inputs: Mapping[str, str] | None = None,
    saves: str | None = None,
) -> Path:
    """Run one stage, go on with it, or skip it where it is finished.

    Args:
        folder: what the stage makes; its record stands in ``folder.parent / "stages"``.
        config: the stage's frozen dataclass; its paths, processes and trust in pickles are not compared.
        function: does the work and returns what it made.
        inputs: fingerprints of what the stage reads.
        saves: pattern, below ``folder.parent``, of the files that an unfinished stage goes on from; by default all of
            ``folder``. Where there are none a record binds nobody: what was begun with it has come to nothing.

    Raises:
        StageError: the record holds other settings or inputs, and there is work that was done with them.
    """
    folder = named(folder)
    path, saves = record_path(folder), saves or f"{glob.escape(folder.name)}/*"
    settings = _settings(config)
    record: dict[str, Any] = {"config": settings, "inputs": dict(inputs or {}), "finished": False}
    record |= {"seconds": 0.0, "sessions": 0}
    if path.exists() and _worked(folder, saves):
        found = _read_record(path)
        found["config"] = _defaults(config) | found["config"]
        _check_same(folder, found, record, hasattr(config, "out"))
        record = found
    if record["finished"] and folder.exists():
        print(f"{folder} is finished; delete it and {path} to make it again.", file=sys.stderr)
        return folder
    record |= {"finished": False, "sessions": record["sessions"] + 1}
    write_json(path, record)
    began = time.monotonic()
    try:
        made = function(config)
        record["finished"] = True
    finally:
        record["seconds"] = round(record["seconds"] + time.monotonic() - began, 1)
        if record["finished"] or _worked(folder, saves):
            write_json(path, record)
        else:
            _forget(path, folder)
    return made


def _worked(folder: Path, saves: str) -> bool:
    """Whether a stage has made anything that it can go on from, or that is finished."""
    if folder.exists() and record_path(folder).exists() and _read_record(record_path(folder))["finished"]:
        return True
    return any(folder.parent.glob(saves))


def _read_record(path: Path) -> dict[str, Any]:
    """A stage's record.

    Raises:
        CheckpointError: it is damaged.
    """
    record = read_json(path)
    types = {"config": dict, "inputs": dict, "finished": bool, "seconds": int | float, "sessions": int}
    if not isinstance(record, dict) or not all(isinstance(record.get(key), kind) for key, kind in types.items()):
        raise CheckpointError(f"{path} is not the record of a stage: delete it, and what it is about, to begin again")
    return record


def _forget(path: Path, folder: Path) -> None:
    """Remove a record, and the folders made for it that hold nothing else."""
    path.unlink()
    with contextlib.suppress(OSError):
        for empty in (folder, path.parent, path.parent.parent):
            if empty.exists():
                empty.rmdir()


def record_path(folder: Path) -> Path:
    """Where the record of the stage that makes ``folder`` stands."""
    folder = named(folder)
    return folder.parent / "stages" / f"{folder.name}.json"


def stage_seconds(run: Path) -> dict[str, float]:
    """How long each stage of a run has taken, over all its sessions, in the order of the road."""
    paths = [run / "stages" / f"{name}.json" for name in ("data", "world_model", "policy", "evaluation")]
    return {path.stem: _read_record(path)["seconds"] for path in paths if path.exists()}


def _settings(config: "DataclassInstance") -> dict[str, Any]:
    """A config's fields as JSON values, without what changes no result but its rounding: paths (a run may move),
    processes, the device.
    """
    values = dataclasses.asdict(config)
    kept = {key: value for key, value in values.items() if not isinstance(value, Path) and key not in UNCOMPARED}
    return json.loads(json.dumps(kept))  # tuples become lists, as in a record read back


def _defaults(config: "DataclassInstance") -> dict[str, Any]:
    """What a record made before some field existed does not say: that version did what the field's default does."""
    return {f.name: f.default for f in dataclasses.fields(config) if isinstance(f.default, bool | int | float | str)}


def _check_same(folder: Path, found: Mapping[str, Any], asked: Mapping[str, Any], movable: bool) -> None:
    differing = [
        f"{key} was {found['config'].get(key)!r}, now {asked['config'].get(key)!r}"
        for key in _unequal(found["config"], asked["config"])
    ]
    differing += [f"the {key} it was made from has changed" for key in _unequal(found["inputs"], asked["inputs"])]
    if differing:
        raise StageError(
            f"{folder} was begun otherwise: {'; '.join(differing)}. Give the old settings to go on with it"
            f"{', another --out' if movable else ''}, or delete {folder} and {record_path(folder)} to begin again"
        )


def _unequal(found: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """The keys asked for whose values differ, a missing one counting as None."""
    return [key for key in asked if found.get(key) != asked[key]]


def fingerprint(folder: Path, suffixes: tuple[str, ...]) -> str:
    """A hash of the names and contents of the files in a folder whose names end so."""
    digest = hashlib.blake2b(digest_size=16)
    for name, path in files(folder).items():
        if name.endswith(suffixes):
            digest.update(name.encode() + b"\0")
            digest.update(path.read_bytes())
    return digest.hexdigest()


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Put rows with equal keys at ``path``, whole or not at all; the keys become the header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())
