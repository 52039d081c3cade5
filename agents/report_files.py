"""What must stand in the JSON files that a page is made of: numbers that are numbers, within what they can be."""

from typing import Annotated, Any, NotRequired

from pydantic import AfterValidator, ConfigDict, Field
from typing_extensions import TypedDict

from procosm.sparse import strict
from procosm.world_model.episodes import finite_json

OPEN = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)
Count = Annotated[int, Field(ge=0, le=10**15)]
Number = Annotated[float, Field(ge=-1e15, le=1e15)]
Object = Annotated[dict[str, Any], AfterValidator(finite_json)]


class Estimate(TypedDict):
    """A mean with its interval."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    mean: Number
    low: Number
    high: Number
    std: NotRequired[Annotated[float, Field(ge=0, le=1e15)]]
    n: Annotated[int, Field(ge=1, le=10**9)]
    mean_steps: NotRequired[Annotated[float, Field(ge=0, le=1e9)]]


class Returns(TypedDict):
    """Of each policy in each world, and the gap between them."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    mujoco: dict[str, Estimate]
    dream: dict[str, Estimate]
    gap: Estimate


class Metrics(TypedDict):
    """Of ``metrics.json`` what every page says; the rest is finite."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    task: Annotated[str, Field(min_length=1, max_length=200)]
    frame_size: Annotated[int, Field(ge=8, le=1024)]
    returns: Returns
    real_steps: dict[str, Count]
    seconds: NotRequired[dict[str, Annotated[float, Field(ge=0, le=1e9)]]]
    films: dict[str, Annotated[str, Field(pattern=r"^[\w-]+\.mp4$")]]


class Row(TypedDict):
    """A row of any result."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    metric: str
    value: Number
    low: NotRequired[Number]
    high: NotRequired[Number]
    n: NotRequired[Count]


class Result(TypedDict):
    """A benchmark's result."""

    __pydantic_config__ = OPEN  # type: ignore[misc]
    rows: list[Row]


def check(kind: Any, values: Any) -> Any:
    """JSON values of ``kind``, in which every number is finite.

    Raises:
        Wrong: a ValueError that names the first places that are not, and what stands there.
    """
    strict.read(Object, values)
    return strict.read(kind, values)
