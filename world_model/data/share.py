"""Which rows of a batch are computed here: a batch may be shared out among processes and, one after another, in one."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """Part ``index`` of ``count`` equal parts of a batch."""

    index: int = 0
    count: int = 1

    def rows(self, batch: int) -> slice:
        """Which of the rows of a batch are in this part."""
        return slice(batch * self.index // self.count, batch * (self.index + 1) // self.count)


_share: ContextVar[Share] = ContextVar("share")


def share() -> Share:
    """The part of a batch whose loss is being computed: all of it, unless :func:`sharing` says otherwise."""
    return _share.get(Share())


@contextmanager
def sharing(part: Share) -> Iterator[None]:
    """Within, :func:`share` is this part."""
    before = _share.set(part)
    try:
        yield
    finally:
        _share.reset(before)


def mean_over_processes(values: Tensor) -> Tensor:
    """The mean of what each process has of its share of a batch, with gradients through all of them."""
    if share().count == 1 or not dist.is_initialized():
        return values
    return _Sum.apply(values) / dist.get_world_size()  # type: ignore[no-untyped-call]


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        together = values.clone()
        dist.all_reduce(together)
        return together

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        together = gradient.clone()
        dist.all_reduce(together)
        return together
