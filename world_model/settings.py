"""Settings that are judged when they are made, by the command line and by Python alike.

A config is a frozen dataclass that inherits from :class:`Settings` and says the range of each field in its type::

    @dataclass(frozen=True)
    class Config(Settings):
        episodes: Count = 100
        gamma: Annotated[float, Interval(gt=0, lt=1)] = 0.99
"""

import dataclasses
import typing
from collections.abc import Hashable
from functools import cache
from typing import Annotated

from annotated_types import Ge, Gt, Interval
from pydantic import AfterValidator, ConfigDict, TypeAdapter, ValidationError

from procosm.world_model.errors import ProcosmError
from procosm.world_model.precision import resolve_device

WORDS = {
    "Input should be": "must be",
    "greater than or equal to": "at least",
    "less than or equal to": "at most",
    "Value error, ": "",
}


class SettingsError(ProcosmError):
    """Settings that no work can be done with; raised before any is."""


def _available(device: str) -> str:
    try:
        resolve_device(device)
    except ProcosmError as error:
        raise ValueError(str(error).removeprefix(f"device {device} ")) from error
    return device


Count = Annotated[int, Ge(1)]
"""Of things of which there must be one at least."""
Positive = Annotated[float, Gt(0)]
Share = Annotated[float, Interval(gt=0, le=1)]
"""A part of a whole that is not empty."""
Processes = Annotated[int, Interval(ge=1, le=1024)]
"""Of the operating system, for work that is shared out."""
Seed = Annotated[int, Interval(ge=0, lt=2**32)]
"""What NumPy, PyTorch and Gymnasium all take as a seed."""
Device = Annotated[str, AfterValidator(_available)]
"""``auto`` (CUDA where there is a device), ``cpu``, ``cuda`` or ``cuda:i``; one that torch can use here."""


class Settings:
    """Base of a frozen dataclass whose fields are checked against their annotations when it is made.

    Types are strict, numbers finite. A subclass that checks fields against each other does it in ``__post_init__``,
    after this one's.

    Raises:
        SettingsError: names every field that is wrong, its value and what it must be.
    """

    def __post_init__(self) -> None:
        wrong = []
        for name, adapter in _adapters(type(self)).items():  # type: ignore[arg-type]  # a class is hashable
            value = getattr(self, name)
            try:
                adapter.validate_python(value)
            except ValidationError as error:
                wrong.append(f"{option(name)} {value} {_said(error)}")
        if wrong:
            raise SettingsError("; ".join(wrong))


def option(name: str) -> str:
    """How the command line calls a field."""
    return "--" + name.replace("_", "-")


@cache
def _adapters(cls: Hashable) -> dict[str, TypeAdapter]:
    hints = typing.get_type_hints(cls, include_extras=True)
    config = ConfigDict(strict=True, allow_inf_nan=False, arbitrary_types_allowed=True)
    return {
        field.name: TypeAdapter(hints[field.name], config=config)
        for field in dataclasses.fields(typing.cast(typing.Any, cls))
        if not dataclasses.is_dataclass(hints[field.name])  # it has judged itself
    }


def _said(error: ValidationError) -> str:
    text = error.errors(include_url=False)[0]["msg"]
    for theirs, ours in WORDS.items():
        text = text.replace(theirs, ours)
    return text
