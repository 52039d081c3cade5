"""Stages of a run that are done once: each leaves a record of its settings, its inputs and its time.

``RUN/stages/NAME.json`` holds ``{config, inputs, finished, seconds, sessions}``. A finished stage is not run again; one
whose settings or inputs changed is an error that names the difference, because nothing here deletes what took hours.
"""

import contextlib
import csv
import dataclasses
import glob
import gzip
import hashlib
import io
import json
import sys
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import AfterValidator, Field
from typing_extensions import TypedDict

from procosm.world_model.data.task import finite_json
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import write_bytes, write_json
from procosm.world_model.folders import files, named
from procosm.world_model.lock import lock
from procosm.world_model.schema import read_file

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

UNCOMPARED = {
    *("processes", "device", "trust_pickle", "frames", "parallel", "accumulate", "recompute"),
    *("dry_run", "devices", "flops"),  # of what comes to no record
}
"""Settings that change no result but its rounding."""
Config = TypeVar("Config", bound="DataclassInstance")


class Record(TypedDict):
    """What is known of a stage."""

    config: Annotated[dict[str, Any], AfterValidator(finite_json)]
    inputs: dict[str, str]
    finished: bool
    seconds: Annotated[float, Field(ge=0, le=1e9)]
    sessions: Annotated[int, Field(ge=0, le=10**6)]


class StageError(ProcosmError):
    """A stage was begun with other settings, or on other inputs, than it is asked to go on with."""


def run_once(
    folder: Path,
    config: Config,
    function: Callable[[Config], Path],
    inputs: Mapping[str, str] | None = None,
    saves: str | None = None,
    look: Callable[[Path], object] | None = None,
    uncompared: Collection[str] = (),
) -> Path:
    """Run one stage, go on with it, or skip it where it is finished.

    Args:
        folder: what the stage makes; its record stands in ``folder.parent / "stages"``.
        config: the stage's frozen dataclass; its paths, processes and trust in pickles are not compared.
        function: does the work and returns what it made.
        inputs: fingerprints of what the stage reads.
        saves: pattern, below ``folder.parent``, of the files that an unfinished stage goes on from; by default all of
            ``folder``. Where there are none a record binds nobody: what was begun with it has come to nothing.
        look: raises ProcosmError where what is recorded as finished is not whole; it is then made again.
        uncompared: further settings that are not compared, because their content is compared elsewhere.

    Raises:
        StageError: the record holds other settings or inputs, and there is work that was done with them.
        ProcosmError: another process is at this stage.
    """
    folder = named(folder)
    path, saves = record_path(folder), saves or f"{glob.escape(folder.name)}/*"
    record: dict[str, Any] = {"config": _settings(config), "inputs": dict(inputs or {}), "finished": False}
    record |= {"seconds": 0.0, "sessions": 0}

    def compared() -> dict[str, Any]:
        if not path.exists() or not _worked(folder, saves):
            return record
        found = _read_record(path)
        found["config"] = _defaults(config) | found["config"]
        _check_same(folder, found, record, hasattr(config, "out"), uncompared)
        return found

    if _is_finished(compared(), folder, path, look):
        return folder
    try:
        with lock(path.with_suffix(".lock"), folder):
            record = compared()  # whoever held the lock may have gone on with it
            if _is_finished(record, folder, path, look):
                return folder
            return _work(record, path, lambda: function(config), lambda: _worked(folder, saves))
    finally:
        if not path.exists():
            _remove_empty(folder, path.parent, path.parent.parent)


def _is_finished(record: Mapping[str, Any], folder: Path, path: Path, look: Callable[[Path], object] | None) -> bool:
    """Whether nothing is left to do, said aloud."""
    if not record["finished"] or not folder.exists():
        return False
    try:
        if look:
            look(folder)
    except ProcosmError as error:
        print(f"{folder} was finished, but is not whole any more and is made again: {error}", file=sys.stderr)
        return False
    print(f"{folder} is finished; delete it and {path} to make it again.", file=sys.stderr)
    return True


def _work(record: dict[str, Any], path: Path, work: Callable[[], Path], worked: Callable[[], bool]) -> Path:
    """Do the work, with its record beside it; where it comes to nothing no record stays."""
    record |= {"finished": False, "sessions": record["sessions"] + 1}
    write_json(path, record)
    began = time.monotonic()
    try:
        made = work()
        record["finished"] = True
    finally:
        record["seconds"] = round(record["seconds"] + time.monotonic() - began, 1)
        if record["finished"] or worked():
            write_json(path, record)
        else:
            path.unlink()
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
    advice = "delete it, and what it is about, to begin again"
    return read_file(Record, path, advice)


def _remove_empty(*folders: Path) -> None:
    """Remove folders that hold nothing, in this order."""
    for folder in folders:
        with contextlib.suppress(OSError):
            folder.rmdir()


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
    kept = {key: value for key, value in values.items() if not _is_path(value) and key not in UNCOMPARED}
    return json.loads(json.dumps(kept))  # tuples become lists, as in a record read back


def _is_path(value: object) -> bool:
    """Whether a setting is a path or several."""
    return isinstance(value, Path) or (isinstance(value, tuple) and any(isinstance(part, Path) for part in value))


def _defaults(config: "DataclassInstance") -> dict[str, Any]:
    """What a record made before some field existed does not say: that version did what the field's default does."""
    return {f.name: f.default for f in dataclasses.fields(config) if isinstance(f.default, bool | int | float | str)}


def _check_same(
    folder: Path, found: Mapping[str, Any], asked: Mapping[str, Any], movable: bool, uncompared: Collection[str]
) -> None:
    differing = [
        f"{key} was {found['config'].get(key)!r}, now {asked['config'].get(key)!r}"
        for key in _unequal(found["config"], asked["config"])
        if key not in uncompared
    ]
    differing += [f"the {key} it was made from has changed" for key in _unequal(found["inputs"], asked["inputs"])]
    if differing:
        raise StageError(
            f"{folder} was begun otherwise: {'; '.join(differing)}. Give the old settings to go on with it"
            f"{', another --out' if movable else ''}, or delete {folder} and {record_path(folder)} to begin again"
        )


def _unequal(found: Mapping[str, Any], asked: Mapping[str, Any]) -> list[str]:
    """The keys asked for whose values differ, a missing one counting as None.

    What may now be given several times was one text in earlier versions, empty where nothing was given.
    """
    earlier = {key: [value] if value else [] for key, value in found.items() if isinstance(value, str)}
    return [key for key in asked if asked[key] not in (found.get(key), earlier.get(key, found.get(key)))]


def fingerprint(folder: Path, suffixes: tuple[str, ...]) -> str:
    """A hash of the names and contents of the files in a folder whose names end so."""
    digest = hashlib.blake2b(digest_size=16)
    for name, path in files(folder).items():
        if name.endswith(suffixes):
            digest.update(name.encode() + b"\0")
            with path.open("rb") as file:
                while piece := file.read(1 << 20):  # a dataset may be larger than memory
                    digest.update(piece)
    return digest.hexdigest()


def write_csv(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Put rows with equal keys at ``path``, whole or not at all; the keys become the header. A ``.gz`` is packed."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    content = text.getvalue().encode()
    write_bytes(path, gzip.compress(content, mtime=0) if path.suffix == ".gz" else content)
