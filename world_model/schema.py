"""The strict reader of what comes from outside: exact types, finite numbers, sizes within bounds, no unknown keys.

What may stand in a file is a dataclass or TypedDict whose fields are annotated with their bounds (``pydantic.Field``).
"""

import dataclasses
import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

from procosm.world_model.interface import CheckpointError, ProcosmError

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
MOST_SAID = 3
"""Faults of one document that are told; a wholly foreign one would have hundreds."""


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter:
    # Pydantic takes a config for neither a dataclass nor a TypedDict, but what stands inside a tuple follows the
    # tuple's: so the classes themselves stay plain.
    return TypeAdapter(tuple[kind], config=STRICT)


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
        optional: keys of the outermost dataclass that older files lack.
    """
    try:
        (found,) = _adapter(kind).validate_json(json.dumps([values]))
    except ValidationError as fault:
        raise error(f"{where}: {_said(fault)}; {advice}") from fault
    except (ProcosmError, ValueError, RecursionError) as fault:  # a class's own checks; JSON that cannot be
        raise error(f"{where}: {fault}; {advice}") from fault
    if dataclasses.is_dataclass(found) and not isinstance(found, type):
        missing = [name for name in _missing(dataclasses.asdict(found), values) if name not in optional]
        if missing:
            raise error(f"{where}: {', '.join(missing)} missing; {advice}")
    return found


def checked_arguments(kind: Any, values: Mapping[str, Any], error: type[ProcosmError]) -> None:
    """Refuse Python arguments that are not what the TypedDict ``kind`` says; NumPy's scalars count as Python's."""
    plain = {name: value.item() if type(value).__module__ == "numpy" and hasattr(value, "item") and not
             getattr(value, "shape", None) else value for name, value in values.items()}  # fmt: skip
    try:
        _adapter(kind).validate_python((plain,))
    except ValidationError as fault:
        raise error(f"{_said(fault)}") from fault


def _said(fault: ValidationError) -> str:
    """The first faults, each with its place and the value that stands there."""
    parts = []
    for each in fault.errors(include_url=False, include_context=False)[:MOST_SAID]:
        place = ".".join(str(step) for step in each["loc"][1:]) or "the whole"
        given = repr(each["input"])
        given = given if len(given) <= 60 else f"{given[:57]}..."
        parts.append(f"{place} is {given}: {each['msg'][:1].lower()}{each['msg'][1:]}")
    more = fault.error_count() - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more else "")


def _missing(found: Any, values: Any, path: str = "") -> list[str]:
    """Places of keys that ``found`` has and ``values`` has not: defaults that stood in."""
    if not isinstance(found, dict) or not isinstance(values, dict):
        return []
    return [
        name
        for key, inner in found.items()
        for name in ([f"{path}{key}"] if key not in values else _missing(inner, values[key], f"{path}{key}."))
    ]
