"""metrics.json and provenance.json of a checkpoint, and a folder that lacks or confuses its files."""

import json
from functools import partial
from pathlib import Path

from tests.fuzz.mutations import Case, documents, json_texts
from tests.fuzz.surfaces.checkpoint import dream, opened_with, whole

LOOSE = {"no object"}
"""Whatever was measured and wherever it came from may be left unsaid."""


def as_folder(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    path.mkdir()
    try:
        dream(path.parent)
    finally:
        path.rmdir()
        path.write_bytes(content)


def without(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    try:
        dream(path.parent)
    finally:
        path.write_bytes(content)


def cases(folder: Path) -> list[Case]:
    checkpoint, made = whole(folder), []
    for name in ("metrics.json", "provenance.json"):
        path = checkpoint / name
        content = path.read_bytes()
        made += [Case(f"{name}: {said}", partial(opened_with, path, text), said not in LOOSE)
                 for said, text in documents(content).items()]  # fmt: skip
        made += [Case(f"{name}: {said}", partial(opened_with, path, text), False)
                 for said, text, _ in json_texts(json.loads(content), lambda *_: False)
                 if said not in documents(b"")]  # fmt: skip
    for path in sorted(checkpoint.iterdir()):
        made += [Case(f"{path.name} missing", partial(without, path), True)]
        made += [Case(f"{path.name} is a folder", partial(as_folder, path), True)]
    return made
