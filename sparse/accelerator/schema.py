"""What may stand in the JSON files that the accelerator reads; imported only where one is."""

from typing import Annotated, Any, Literal, NotRequired

from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from procosm.sparse import strict
from procosm.sparse.errors import SparseError

Size = Annotated[int, Field(ge=1, le=2**20)]
"""Of one dimension; the largest that a network of today has is a thousandth of it."""
Words = Annotated[int, Field(ge=1, le=2**40)]
Count = Annotated[int, Field(ge=0, le=2**62)]
Energy = Annotated[float, Field(gt=0, le=1e30)]
Part = Annotated[float, Field(ge=0, le=1e30)]
Share = Annotated[float, Field(gt=0, le=1)]
Factors = Annotated[list[Size], Field(min_length=7, max_length=7)]
"""In the order RSPQCKN."""
Dimensions = Annotated[list[Annotated[int, Field(ge=0, le=2**20)] | Literal["D"]], Field(min_length=11, max_length=11)]
Order = Annotated[str, Field(min_length=7, max_length=7)]
Three = Annotated[list[Count], Field(min_length=3, max_length=3)]
"""Of the three tensors."""


class Level(TypedDict):
    """Accesses of one level of memory."""

    tile: Three
    reads: Three
    updates: Three
    fills: Three


class Levels(TypedDict):
    """Of the three levels."""

    RegFile: Level
    GlobalBuffer: Level
    DRAM: Level


class Stored(TypedDict):
    """A stored result of the sparse machine; keys besides these may be anything."""

    __pydantic_config__ = ConfigDict(**strict.STRICT | {"extra": "allow"})  # type: ignore[misc]
    cycles: NotRequired[Count]
    total_pJ: NotRequired[Energy]
    energy: NotRequired[dict[str, Part]]
    tensor_pJ: NotRequired[dict[str, list[Part]]]
    index_pJ: NotRequired[dict[str, Part]]
    sort_pJ: NotRequired[Part]
    overflow_per_PE: NotRequired[Part]
    overflow_GLB: NotRequired[Part]


class RawRecord(TypedDict):
    """One case of the reference schema; keys besides these may be anything."""

    __pydantic_config__ = ConfigDict(**strict.STRICT | {"extra": "allow"})  # type: ignore[misc]
    dims: Dimensions
    dataflow: Literal["CK", "CN", "KN", "CP", "KP", "PQ", "PN"]
    phase: Literal["fw", "bw", "wu"]
    density: Share
    RF: Factors
    GLB: Factors
    DRAM: Factors
    perm_GLB: Order
    perm_DRAM: Order
    kind: NotRequired[Literal["dense", "sparse"]]
    spatial: NotRequired[Factors]
    bounds: NotRequired[Factors]
    shape: NotRequired[str]
    dense_cycles: NotRequired[Count]
    total_dense_pJ: NotRequired[Energy]
    energy_dense: NotRequired[dict[str, Part]]
    balanced: NotRequired[Stored]
    unbalanced: NotRequired[Stored]
    acc: NotRequired[Levels]
    macs: NotRequired[Count]
    utilisation: NotRequired[Share]
    actual_density: NotRequired[Share]


class StatedMachine(TypedDict):
    """Under ``readme``, ``machine`` of a file of records."""

    __pydantic_config__ = ConfigDict(**strict.STRICT | {"extra": "allow"})  # type: ignore[misc]
    PEs: Annotated[list[Annotated[int, Field(ge=1, le=1024)]], Field(min_length=2, max_length=2)]
    RF_words_per_PE: Words
    GLB_words: Words
    RF_word_bits: Annotated[int, Field(ge=1, le=1024)]
    GLB_words_per_line: Annotated[int, Field(ge=1, le=2**20)]
    DRAM_words_per_line: Annotated[int, Field(ge=1, le=2**20)]
    batch_N: Annotated[int, Field(ge=1, le=2**16)]


class Prices(TypedDict):
    """A table of energies, per access."""

    mac: Part
    rf_word: Part
    glb_line: Part
    dram_line: Part
    unit: Annotated[str, Field(max_length=100)]
    source: Annotated[str, Field(max_length=2000)]


def checked(kind: Any, values: Any, what: str) -> Any:
    """JSON values as the ``kind`` they should be; a SparseError that begins with ``what`` where they are not."""
    try:
        return strict.read(kind, values)
    except strict.Wrong as fault:
        raise SparseError(f"{what}: {fault}") from fault
