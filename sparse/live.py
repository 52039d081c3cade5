"""A sparse layer's weight, as a training method sees it: only the kept blocks exist."""

from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from procosm.sparse import matrix, stored
from procosm.sparse.errors import SparseError
from procosm.sparse.generator import Initial
from procosm.sparse.moments import carry_moments
from procosm.sparse.sharded import summed, whole, write
from procosm.sparse.weight import BlockWeight


class LiveWeight:
    """The blocks of a BlockWeight (Linear, Conv2d, Conv3d). Members as in MaskedWeight.

    Untracked blocks are zero from the first step on, whatever the share: a layer that stores only live blocks has no
    place for theirs. The pattern and the values a layer was built or converted with are its start W0. Of the kept
    blocks W0 decays: their values are share * W0 plus what training has added, so that a block which learns nothing
    scores nothing. W0 is remembered until the share is 0.

    Attributes:
        exact: measure the gradient of all backward passes and ranks together, as one pass over one batch would. It
            takes the memory of a dense layer while a probe is due; otherwise the norms of each pass are added up.
    """

    def __init__(self, name: str, layer: BlockWeight) -> None:
        self.name, self.layer = name, layer
        self.parameter, self.block, self.shape = layer.values, layer.block, layer.shape
        self.initial: Initial | None = None
        self._start: Tensor | None = None
        self._decays, self._share = False, 1.0
        self._armed = False
        self.exact = False
        layer.values.register_hook(self._gradient)

    @property
    def capacity(self) -> int:
        """Blocks that can be kept at once: the layer's slots."""
        return self.layer.capacity

    def kept(self) -> Tensor:
        """bool (Gm, Gn)."""
        return self.layer.kept()

    def sow(self, seed: int) -> None:
        """From the first step on W0 decays."""
        self._decays = True

    def begin(self, order: Tensor, count: int, share: float) -> None:
        """First step of a run: the layer has its pattern, and its values are W0."""
        self._start, self._share = (self.parameter.detach().clone() if self._decays else None), 1.0

    def arm(self) -> None:
        """From now until ``probed``, backward passes measure the gradients of untracked blocks."""
        if self.exact:
            self.layer.arm_whole()
            return
        self._armed = True
        self._raw = torch.zeros((), dtype=torch.float32, device=self.parameter.device)
        self.layer.arm()

    def probed(self) -> tuple[Tensor, Tensor]:
        """Gradient RMS per element of untracked blocks, float32 (Gm, Gn), and the norm of the kept blocks' gradient."""
        if self.exact:
            return self._probed_whole()
        self._armed = False
        return self.layer.take_norms() / self.block, self._raw

    def _probed_whole(self) -> tuple[Tensor, Tensor]:
        """The same of the gradient summed over backward passes and ranks."""
        gradient, kept = summed(self.layer.take_gradient()), self.kept()
        grid = gradient.view(kept.shape[0], self.block, kept.shape[1], self.block)
        norms = grid.float().square().sum((1, 3)).sqrt()
        return norms.masked_fill(kept, 0.0) / self.block, norms[kept].norm()

    def displacement(self, share: float) -> Tensor:
        """RMS per element of V - share * W0 in each block, float32 (Gm, Gn); 0 at untracked ones."""
        values = self.parameter.detach()
        added = values if self._start is None else values - self._share * self._start
        rms = whole(added).float().square().mean((1, 2)).sqrt()
        index = self.layer.index
        grid = torch.zeros(self.kept().shape, dtype=torch.float32, device=rms.device)
        return grid.index_put_((index.rows.long(), index.cols.long()), rms * matrix.live(index), accumulate=True)

    @torch.no_grad()
    def set_kept(self, mask: Tensor, share: float, optimizer: Optimizer) -> None:
        """Keep exactly the blocks of ``mask`` bool (Gm, Gn); added ones start at zero, moments anew."""
        source = self.layer.set_kept(mask)
        carry_moments(optimizer, self.parameter, source)
        if self._start is not None:
            write(self._start, matrix.carry(whole(self._start), source))

    @torch.no_grad()
    def hold(self, share: float, optimizer: Optimizer) -> None:
        """Take from the values what W0 has lost since the last call."""
        if self._start is None:
            return
        self.parameter.sub_(self._start, alpha=self._share - share)
        self._share = share
        if share == 0.0:
            self._start = None

    def state(self) -> dict[str, Tensor]:
        """What the layer's own state_dict does not tell: W0 and the share of it that is left; nothing without W0."""
        if self._start is None:
            return {}
        return {
            "initial": stored.trimmed(whole(self._start)).clone(),
            "share": torch.tensor(self._share, dtype=torch.float64),
        }

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of ``state``."""
        size, room = state["initial"].shape if state else self.parameter.shape, self.parameter.shape
        if size[1:] != room[1:] or size[0] > room[0]:
            raise SparseError(f"the saved state of {self.name} has other slots: build its layer with that capacity")
        self._start = torch.zeros_like(self.parameter.detach()) if state else None
        if self._start is not None:
            saved = stored.with_room(state["initial"], room[0])
            write(self._start, saved.to(self.parameter.device, self.parameter.dtype))
        self._share = float(state["share"]) if state else 0.0

    def __getstate__(self) -> dict[str, Any]:
        start = self._start
        if start is not None and stored.is_marked(self.parameter):
            start = stored.trimmed(start)
        return vars(self) | {"_start": start}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Copies of parameters come without their hooks.
        self.__dict__.update(state)
        if self._start is not None and stored.is_marked(self.parameter):
            self._start = stored.with_room(self._start, len(self.parameter))
        self.parameter.register_hook(self._gradient)

    def _gradient(self, gradient: Tensor) -> None:
        if self._armed:
            self._raw += gradient.float().norm()
