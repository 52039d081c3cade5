"""How many bytes a model's training takes, and how many it would take dense."""

from dataclasses import dataclass

from torch import Tensor, nn
from torch.optim import Optimizer

from procosm.sparse.weight import BlockWeight

ADAM_TENSORS = 2


@dataclass(frozen=True)
class MemoryReport:
    """Bytes of a model in training; ``dense`` is the same model with every block-sparse weight stored whole.

    Attributes:
        weights, gradients, optimizer: (sparse, dense) bytes each; the weights include the block index.
    """

    weights: tuple[int, int]
    gradients: tuple[int, int]
    optimizer: tuple[int, int]

    @property
    def total(self) -> tuple[int, int]:
        """(sparse, dense) bytes of all three."""
        sparse, dense = zip(self.weights, self.gradients, self.optimizer, strict=True)
        return sum(sparse), sum(dense)

    @property
    def ratio(self) -> float:
        """Dense over sparse, of the total; 1 for a model without parameters."""
        return self.total[1] / self.total[0] if self.total[0] else 1.0

    def __str__(self) -> str:
        lines = [f"{'':10}{'sparse':>12}{'dense':>12}"]
        for name in ("weights", "gradients", "optimizer", "total"):
            sparse, dense = (f"{size / 1e6:.2f} MB" for size in getattr(self, name))
            lines.append(f"{name:10}{sparse:>12}{dense:>12}")
        return "\n".join([*lines, f"dense / sparse: {self.ratio:.2f}"])


def memory_report(model: nn.Module, optimizer: Optimizer | None = None) -> MemoryReport:
    """Bytes of weights, gradients and optimizer state, sparse against dense, padding slots counted as what they take.

    Args:
        optimizer: its state is counted as it is now (call after the first step); without one, Adam's two tensors a
            parameter are assumed.
    """
    whole = {id(layer.values): layer for layer in model.modules() if isinstance(layer, BlockWeight)}
    index = sum(_bytes(t) for layer in whole.values() for t in vars(layer.index).values())
    sums = {name: [0, 0] for name in ("weights", "gradients", "optimizer")}
    for parameter in model.parameters():
        layer = whole.get(id(parameter))
        scale = 1.0 if layer is None else layer.shape[0] * layer.shape[1] / max(parameter.numel(), 1)
        sizes = {"weights": _bytes(parameter), "gradients": _bytes(parameter) if parameter.requires_grad else 0}
        sizes["optimizer"] = _state_bytes(parameter, optimizer)
        for name, size in sizes.items():
            sums[name][0] += size
            sums[name][1] += round(size * scale)
    sums["weights"][0] += index
    return MemoryReport(**{name: (pair[0], pair[1]) for name, pair in sums.items()})


def _state_bytes(parameter: nn.Parameter, optimizer: Optimizer | None) -> int:
    if optimizer is None:
        return ADAM_TENSORS * _bytes(parameter) if parameter.requires_grad else 0
    state = optimizer.state.get(parameter, {}).values()
    return sum(_bytes(t) for t in state if isinstance(t, Tensor) and t.shape == parameter.shape)


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
