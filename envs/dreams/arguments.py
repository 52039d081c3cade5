"""What users hand to environments, judged before anything is done with it: arguments, seeds, reset options, actions."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from pydantic import Field
from typing_extensions import TypedDict

from procosm.world_model.errors import TaskError
from procosm.world_model.interface import Sampling, Solver
from procosm.world_model.schema import check_arguments
from procosm.world_model.settings import Device


class DreamArguments(TypedDict, total=False):
    """Of both environments of dreams; ``starts``, ``observation`` and ``checkpoint`` are judged where they are used."""

    num_envs: Annotated[int, Field(ge=1, le=2**16)]
    denoising_steps: Annotated[int, Field(ge=1, le=1000)]
    trust_below: Annotated[float, Field(ge=0, le=1)] | None
    autoreset_mode: str | AutoresetMode
    render_mode: Literal["rgb_array"] | None
    device: Device
    name: Annotated[str, Field(max_length=200)] | None
    mixed: bool


class SamplingArguments(TypedDict, total=False):
    """Of how a dream draws, see ``Sampling``."""

    solver: Solver
    churn: Annotated[float, Field(ge=0, le=1000)]
    guidance: Annotated[float, Field(ge=0, le=100)] | None
    temperature: Annotated[float, Field(gt=0, le=100)]
    top_k: Annotated[int, Field(ge=1)] | None
    top_p: Annotated[float, Field(gt=0, le=1)]


class TruthArguments(TypedDict, total=False):
    """Of a truth env."""

    task: Annotated[str, Field(min_length=1, max_length=200)]
    action_repeat: Annotated[int, Field(ge=1, le=1000)]
    render_mode: Annotated[str, Field(max_length=50)] | None
    renderer: Annotated[str, Field(max_length=50)]
    version: int


def frame_sides(frame_size: object) -> tuple[int, int]:
    """Height and width of a view, pixels, from one number for both, a pair, or a text such as ``64x96``.

    Raises:
        TaskError: anything else, or sides that are not 32 to 256.
    """
    pair: Any = frame_size
    if isinstance(frame_size, str):
        pair = [int(side) if side.isascii() and side.isdecimal() else side for side in frame_size.split("x")]
        pair = pair[0] if len(pair) == 1 else pair
    if not isinstance(pair, Sequence) or isinstance(pair, str):
        pair = (pair, pair)
    if len(pair) != 2 or not all(whole(side) and 32 <= side <= 256 for side in pair):
        raise TaskError(
            f"frame_size is {frame_size!r:.60}: give pixels, 32 to 256, for both sides, or height and width (64x96)"
        )
    return int(pair[0]), int(pair[1])


def check_dream(**arguments: Any) -> None:
    """Refuse arguments of a dream that cannot be, by name, with a TaskError."""
    check_arguments(DreamArguments, arguments, TaskError)


def chosen_sampling(denoising_steps: int, further: Mapping[str, Any] | None) -> Sampling:
    """How dreams are drawn.

    Raises:
        TaskError: a setting that there is not, or that cannot be, by name.
    """
    if further is None:
        return Sampling(denoising_steps)
    if not isinstance(further, Mapping):
        raise TaskError(f"sampling is {further!r:.60}: give a mapping, such as {{'solver': 'unipc'}}")
    check_arguments(SamplingArguments, dict(further), TaskError)
    return Sampling(denoising_steps, **further)


def check_truth(**arguments: Any) -> None:
    """Refuse arguments of a truth env that cannot be, by name, with a TaskError."""
    check_arguments(TruthArguments, arguments, TaskError)


def whole(value: object) -> bool:
    """Whether something is an integer, Python's or NumPy's, an array of one included, and not a truth value."""
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def usable_actions(actions: object, space: spaces.Box) -> np.ndarray:
    """Actions as float32 of the space's shape, clipped to its bounds.

    Raises:
        TaskError: not numbers, another shape, or not finite.
    """
    values = numbers(actions, "actions")
    if values.shape != space.shape:
        raise TaskError(f"actions have shape {values.shape}, but this environment takes {space.shape}")
    if not np.isfinite(values).all():
        where = np.argwhere(~np.isfinite(values))[0].tolist()
        raise TaskError(f"the action at index {where} is {values[tuple(where)]}: actions must be finite numbers")
    # Clipped in its own precision first: 1e300 is finite, and float32 would make it infinite.
    return np.clip(values, space.low.astype(np.float64), space.high.astype(np.float64)).astype(np.float32)


def numbers(values: object, what: str) -> np.ndarray:
    """An array of integers or floats, as NumPy makes one of ``values``.

    Raises:
        TaskError: they are no numbers; texts of numbers and truth values are none either.
    """
    try:
        array = np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
    except (TypeError, ValueError, OverflowError, RuntimeError, RecursionError) as error:
        raise TaskError(f"{what} must be an array of numbers: {error}") from error
    if array.dtype.kind not in "iuf":
        raise TaskError(f"{what} must be an array of numbers, not of {array.dtype}: {_short(values)}")
    return array


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
