"""What a sparse training method needs to know of a weight, and which weights of a model it takes charge of."""

from collections.abc import Iterable
from fnmatch import fnmatch
from typing import Protocol

from torch import Tensor, nn
from torch.optim import Optimizer

from procosm.sparse.generator import Initial
from procosm.sparse.live import LiveWeight
from procosm.sparse.masked import MaskedWeight
from procosm.sparse.weight import BlockWeight


class Prunable(Protocol):
    """A weight whose blocks can be dropped and added; MaskedWeight documents each member."""

    name: str
    parameter: nn.Parameter
    block: int
    initial: Initial | None

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def capacity(self) -> int: ...
    def kept(self) -> Tensor: ...
    def sow(self, seed: int) -> None: ...
    def begin(self, order: Tensor, count: int, share: float) -> None: ...
    def arm(self) -> None: ...
    def probed(self) -> tuple[Tensor, Tensor]: ...
    def displacement(self, share: float) -> Tensor: ...
    def set_kept(self, mask: Tensor, share: float, optimizer: Optimizer) -> None: ...
    def hold(self, share: float, optimizer: Optimizer) -> None: ...
    def state(self) -> dict[str, Tensor]: ...
    def load(self, state: dict[str, Tensor]) -> None: ...


def prunable(model: nn.Module, block: int, skip: Iterable[str] = ()) -> list[Prunable]:
    """The weight of every sparse layer; where the model has none, every dense parameter of two or more axes, masked in
    blocks of side ``block``.

    Args:
        skip: name patterns (fnmatch) to leave alone, such as "head*".

    Raises:
        SparseError: a dense weight that does not divide into blocks.
    """
    patterns = tuple(skip)

    def wanted(name: str) -> bool:
        return not any(fnmatch(name, pattern) for pattern in patterns)

    layers = [(name, layer) for name, layer in model.named_modules() if isinstance(layer, BlockWeight)]
    if layers:
        return [LiveWeight(name, layer) for name, layer in layers if wanted(name) and layer.values.requires_grad]
    dense = [(name, p) for name, p in model.named_parameters() if p.ndim >= 2 and p.requires_grad]
    return [MaskedWeight(name, parameter, block) for name, parameter in dense if wanted(name)]
