"""A sparse layer's weight, as a training method sees it: only the kept blocks exist."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from procosm.sparse import matrix
from procosm.sparse.generator import Initial
from procosm.sparse.moments import carry_moments
from procosm.sparse.weight import BlockWeight


class LiveWeight:
    """The blocks of a BlockWeight (Linear, Conv2d, Conv3d). Members as in MaskedWeight.

    Untracked blocks are zero from the first step on, whatever the share: a layer that stores only live blocks has no
    place for initial weights that decay. The pattern and the values a layer was built or converted with are its start.
    """

    def __init__(self, name: str, layer: BlockWeight) -> None:
        self.name, self.layer = name, layer
        self.parameter, self.block, self.shape = layer.values, layer.block, layer.shape
        self.initial: Initial | None = None
        self._armed = False
        layer.values.register_hook(self._gradient)

    @property
    def capacity(self) -> int:
        """Blocks that can be kept at once: the layer's slots."""
        return self.layer.capacity

    def kept(self) -> Tensor:
        """bool (Gm, Gn)."""
        return self.layer.kept()

    def sow(self, seed: int) -> None:
        """Nothing: the layer keeps its values."""

    def begin(self, order: Tensor, count: int, share: float) -> None:
        """Nothing: the layer has its pattern."""

    def arm(self) -> None:
        """From now until ``probed``, backward passes measure the gradients of untracked blocks."""
        self._armed = True
        self._raw = torch.zeros((), dtype=torch.float32, device=self.parameter.device)
        self.layer.arm()

    def probed(self) -> tuple[Tensor, Tensor]:
        """Gradient RMS per element of untracked blocks, float32 (Gm, Gn), and the norm of the kept blocks' gradient."""
        self._armed = False
        return self.layer.take_norms() / self.block, self._raw

    def displacement(self, share: float) -> Tensor:
        """RMS per element of the values in each block, float32 (Gm, Gn); 0 at untracked ones."""
        rms = self.parameter.detach().float().square().mean((1, 2)).sqrt()
        index = self.layer.index
        grid = torch.zeros(self.kept().shape, dtype=torch.float32, device=rms.device)
        return grid.index_put_((index.rows.long(), index.cols.long()), rms * matrix.live(index), accumulate=True)

    @torch.no_grad()
    def set_kept(self, mask: Tensor, share: float, optimizer: Optimizer) -> None:
        """Keep exactly the blocks of ``mask`` bool (Gm, Gn); added ones start at zero, moments anew."""
        carry_moments(optimizer, self.parameter, self.layer.set_kept(mask))

    def hold(self, share: float, optimizer: Optimizer) -> None:
        """Nothing: what is not stored does not move."""

    def state(self) -> dict[str, Tensor]:
        """Nothing: the layer's own state_dict has pattern and values."""
        return {}

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of ``state``."""

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Copies of parameters come without their hooks.
        self.__dict__.update(state)
        self.parameter.register_hook(self._gradient)

    def _gradient(self, gradient: Tensor) -> None:
        if self._armed:
            self._raw += gradient.float().norm()
