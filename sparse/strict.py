"""The strict reader of JSON from outside: exact types, finite numbers, sizes within bounds, no unknown keys.

What may stand in a file is a dataclass or TypedDict whose fields are annotated with their bounds (``pydantic.Field``).
Not imported by ``procosm.sparse``, which needs torch and NumPy alone.
"""

import json
from functools import lru_cache
from typing import Any

from pydantic import ConfigDict, TypeAdapter, ValidationError

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
MOST_SAID = 3
"""Faults of one document that are told; a wholly foreign one would have hundreds."""


class Wrong(ValueError):
    """Values that are not what they should be: which, and why."""


@lru_cache(maxsize=64)
def _adapter(kind: Any) -> TypeAdapter:
    # Pydantic takes a config for neither a dataclass nor a TypedDict, but what stands inside a tuple follows the
    # tuple's: so the classes themselves stay plain.
    return TypeAdapter(tuple[kind], config=STRICT)


def read(kind: Any, values: Any) -> Any:
    """JSON values, as ``json.loads`` gives them, as the ``kind`` they should be.

    Raises:
        Wrong: names the first places that are not, and what stands there.
    """
    try:
        return _adapter(kind).validate_json(json.dumps([values]))[0]
    except ValidationError as fault:
        raise Wrong(_said(fault)) from fault
    except (TypeError, ValueError, RecursionError) as fault:
        raise Wrong(f"no JSON that can be read ({fault})") from fault


def check(kind: Any, values: Any) -> None:
    """Refuse Python values that are not of ``kind``, in strict mode.

    Raises:
        Wrong: as :func:`read`.
    """
    try:
        _adapter(kind).validate_python((values,))
    except ValidationError as fault:
        raise Wrong(_said(fault)) from fault


def _said(fault: ValidationError) -> str:
    parts = []
    for each in fault.errors(include_url=False, include_context=False)[:MOST_SAID]:
        place = ".".join(str(step) for step in each["loc"][1:]) or "the whole"
        if each["type"] in ("missing", "missing_argument"):
            parts.append(f"{place} is missing")
            continue
        given = repr(each["input"])
        given = given if len(given) <= 60 else f"{given[:57]}..."
        parts.append(f"{place} is {given}: {each['msg'][:1].lower()}{each['msg'][1:]}")
    more = fault.error_count() - len(parts)
    return "; ".join(parts) + (f"; and {more} more" if more else "")
