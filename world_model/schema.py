"""What every JSON file of ours is read through: the strict reader, with errors that name the file and what to do."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from procosm.sparse import strict
from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.files import read_json


def checked(
    kind: Any,
    values: Any,
    where: str,
    advice: str,
    error: type[ProcosmError] = CheckpointError,
    optional: tuple[str, ...] = (),
) -> Any:
    """JSON values as the ``kind`` they should be.

    Args:
        kind: dataclass, TypedDict or other type; a dataclass's defaults stand in for nothing but ``optional`` keys.
        values: what ``json.loads`` gave.
        where: file the values stand in. advice: what to do about a wrong one.
        error: raised with the first wrong places, each by name.
        optional: places of keys that older files lack.
    """
    try:
        found = strict.read(kind, values)
    except (strict.Wrong, ProcosmError) as fault:  # a class's own checks are errors of ours
        raise error(f"{where}: {fault}; {advice}") from fault
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        missing = [name for name in _missing(dataclasses.asdict(found), values) if name not in optional]
        if missing:
            raise error(f"{where}: {', '.join(missing)} missing; {advice}")
    return found


def read_file(kind: Any, path: Path, advice: str) -> Any:
    """A JSON file as the ``kind`` it should be; ``advice`` says what to do about a damaged one.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    values = read_json(path, advice)
    try:
        return strict.read(kind, values)
    except strict.Wrong as fault:
        raise CheckpointError(f"{path} is damaged ({fault}): {advice}") from fault


def check_arguments(kind: Any, values: Mapping[str, Any], error: type[ProcosmError]) -> None:
    """Refuse Python arguments that are not what the TypedDict ``kind`` says; NumPy's scalars count as Python's."""
    plain = {name: value.item() if isinstance(value, np.generic) else value for name, value in values.items()}
    try:
        strict.check(kind, plain)
    except strict.Wrong as fault:
        raise error(str(fault)) from fault


def _missing(found: Any, values: Any, path: str = "") -> list[str]:
    """Places of keys that ``found`` has and ``values`` has not: defaults that stood in."""
    if not isinstance(found, dict) or not isinstance(values, dict):
        return []
    return [
        name
        for key, inner in found.items()
        for name in ([f"{path}{key}"] if key not in values else _missing(inner, values[key], f"{path}{key}."))
    ]
