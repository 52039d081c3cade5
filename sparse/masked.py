"""A dense parameter trained as if only the kept blocks were stored: the simulation sparse layers are compared with."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from procosm.sparse.errors import SparseError
from procosm.sparse.generator import Initial, as_found
from procosm.sparse.moments import reset_moments
from procosm.sparse.quantile import top


class MaskedWeight:
    """Blocks of a dense parameter (out, ...), kept or not. Saves nothing; any block side, 1 included.

    Gradients of untracked blocks never reach the optimizer, so clipping sees what a sparse layer would show it; the
    moments of a dropped block are cleared, so a block that comes back starts afresh.

    Attributes:
        name: of the parameter, in its model.
        parameter: (out, ...), seen as (out, in) with all further axes in one.
        block: side b of a block.
        shape: of the dense weight, all axes.
        mask: bool (Gm, Gn), True where kept.
        initial: recipe of W0, or None where untracked blocks are zero from the start.
    """

    def __init__(self, name: str, parameter: nn.Parameter, block: int) -> None:
        out, width = parameter.shape[0], parameter[0].numel()
        if out % block or width % block:
            raise SparseError(
                f"{name} ({out} x {width}) does not divide into {block} x {block} blocks: skip it or use 1"
            )
        self.name, self.parameter, self.block = name, parameter, block
        self.shape = tuple(parameter.shape)
        self.mask = torch.ones(out // block, width // block, dtype=torch.bool, device=parameter.device)
        self.initial: Initial | None = None
        self._armed = False
        parameter.register_hook(self._gradient)

    @property
    def capacity(self) -> int:
        """Blocks that can be kept at once: all."""
        return self.mask.numel()

    def kept(self) -> Tensor:
        """bool (Gm, Gn)."""
        return self.mask

    def sow(self, seed: int) -> None:
        """Make the scale of the present values the recipe of W0; ``begin`` then draws them anew."""
        self.initial = as_found(self.name, self.parameter, seed)

    def arm(self) -> None:
        """From now until ``probed``, backward passes measure the gradient of every block."""
        self._armed = True
        self._norms = torch.zeros(self.mask.shape, dtype=torch.float32, device=self.parameter.device)
        self._raw = torch.zeros((), dtype=torch.float32, device=self.parameter.device)

    def probed(self) -> tuple[Tensor, Tensor]:
        """What was measured since ``arm``: gradient RMS per element of each block, float32 (Gm, Gn), and the norm of
        the kept blocks' gradient as it left the backward pass.
        """
        self._armed = False
        return self._norms, self._raw

    def displacement(self, share: float) -> Tensor:
        """RMS per element of V - share * W0 in each block, float32 (Gm, Gn)."""
        return self._rms(self.parameter.detach() - self._anchor(share))

    @torch.no_grad()
    def set_kept(self, mask: Tensor, share: float, optimizer: Optimizer) -> None:
        """Keep exactly the blocks of ``mask`` bool (Gm, Gn): dropped and added ones are at share * W0, moments anew."""
        self._reset(self._spread(mask & self.mask), share, optimizer)
        self.mask = mask.clone()

    @torch.no_grad()
    def hold(self, share: float, optimizer: Optimizer) -> None:
        """Put the untracked blocks at share * W0, moments anew (weight decay of share * W0 feeds them)."""
        self._reset(self._spread(self.mask), share, optimizer)

    @torch.no_grad()
    def begin(self, order: Tensor, count: int, share: float) -> None:
        """First step of a run: every block at W0 if there is a recipe, and the ``count`` first of ``order`` kept.

        Args:
            order: int64 (Gm, Gn), the larger the earlier.
        """
        if self.initial is not None:
            self.parameter.copy_(self._anchor(1.0))
        self.mask = top(order, count)
        self.parameter.copy_(torch.where(self._spread(self.mask), self.parameter, self._anchor(share)))

    def state(self) -> dict[str, Tensor]:
        """What the parameter does not tell."""
        return {"kept": self.mask.clone()}

    def load(self, state: dict[str, Tensor]) -> None:
        """The inverse of ``state``."""
        self.mask = state["kept"].to(self.mask.device).clone()

    def _reset(self, alive: Tensor, share: float, optimizer: Optimizer) -> None:
        self.parameter.copy_(torch.where(alive, self.parameter, self._anchor(share)))
        reset_moments(optimizer, self.parameter, alive)

    def _anchor(self, share: float) -> Tensor:
        if self.initial is None or share == 0.0:
            return torch.zeros_like(self.parameter)
        return self.initial.tensor(self.parameter.device, self.parameter.dtype) * share

    def __setstate__(self, state: dict[str, Any]) -> None:
        # Copies of parameters come without their hooks.
        self.__dict__.update(state)
        self.parameter.register_hook(self._gradient)

    def _gradient(self, gradient: Tensor) -> Tensor:
        live = gradient * self._spread(self.mask)
        if self._armed:
            self._norms += self._rms(gradient)
            self._raw += live.float().norm()
        return live

    def _rms(self, dense: Tensor) -> Tensor:
        (gm, gn), b = self.mask.shape, self.block
        return dense.float().reshape(gm, b, gn, b).square().mean((1, 3)).sqrt()

    def _spread(self, mask: Tensor) -> Tensor:
        b = self.block
        return mask.repeat_interleave(b, 0).repeat_interleave(b, 1).view(self.parameter.shape)
