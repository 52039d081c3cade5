"""What the machine runs: the five networks of the paper, or any torch module traced layer by layer."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.resources import files

from procosm.sparse.accelerator.problem import Layer
from procosm.sparse.errors import SparseError


@dataclass(frozen=True)
class Workload:
    """A network as a list of layers in execution order."""

    name: str
    layers: tuple[Layer, ...]
    weight_reduction: float | None = None
    """Published DropBack/Procrustes weight budget, dense weights over kept ones; None when there is none."""
    left_out: tuple[str, ...] = ()
    """Parameters with several axes of a traced module that belong to no layer here."""

    @property
    def macs(self) -> int:
        """Dense multiply-accumulates per sample and phase."""
        return sum(layer.macs for layer in self.layers)

    @property
    def weights(self) -> int:
        return sum(layer.weights for layer in self.layers)

    @property
    def budget(self) -> float:
        """Share of the weights that the published budget keeps. SparseError when none is published."""
        if self.weight_reduction is None:
            raise SparseError(f"no weight budget is published for {self.name!r}: state the density yourself")
        return 1 / self.weight_reduction


def network(name: str) -> Workload:
    """One of the authors' five layer tables (scripts/common.py of their simulator; strides at output resolution)."""
    tables = json.loads(files(__package__).joinpath("networks.json").read_text(encoding="utf-8"))
    if name not in tables:
        raise SparseError(f"network {name!r} is unknown; choose one of {', '.join(tables)}, or give --model")
    layers = tuple(Layer.from_dims(layer, dims) for layer, dims in tables[name]["layers"])
    return Workload(name, layers, tables[name]["weight_reduction"])


def network_names() -> tuple[str, ...]:
    return tuple(json.loads(files(__package__).joinpath("networks.json").read_text(encoding="utf-8")))
