"""The order in which windows of video are trained on: every one once an epoch, few videos at a time.

Who reads one frame of a video decodes all of it. So the videos of an epoch come in any order, as many together as
memory holds, and the windows of those in any order: a shuffle buffer, but a function of (seed, epoch) alone, so that
training goes on in the middle of an epoch, with any number of processes.
"""

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from procosm.world_model.data.windows import Table


@dataclass(frozen=True)
class _Plan:
    """An epoch: which videos are together, and how many windows there are up to the end of each such group."""

    groups: list[np.ndarray]
    ends: np.ndarray


class Epochs:
    """The windows of a table, epoch after epoch.

    Args:
        table: episodes end to end. seed: of the order.
        together: frames of which the videos' windows are mixed; the longest video's beside.
    """

    def __init__(self, table: Table, seed: int, together: int) -> None:
        steps = table.steps.cpu().numpy()
        first = table.first.cpu().numpy()[steps]
        videos, self._begins, self._counts = np.unique(first, return_index=True, return_counts=True)
        self._lengths = table.last.cpu().numpy()[videos] + 1 - videos
        self._steps, self._seed, self._together = steps, seed, together
        self._plans: OrderedDict[int, _Plan] = OrderedDict()
        self._orders: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()

    def windows(self, begin: int, count: int) -> Tensor:
        """(count,) frames that the steps of the windows leave, from the ``begin``-th of all epochs on."""
        found, position = list[np.ndarray](), begin
        while position < begin + count:
            epoch, at = divmod(position, len(self._steps))
            ends = self._plan(epoch).ends
            group = int(np.searchsorted(ends, at, side="right"))
            order = self._order(epoch, group)
            part = order[at - (ends[group] - len(order)) :][: begin + count - position]
            found.append(part)
            position += len(part)
        return torch.from_numpy(np.concatenate(found))

    def _plan(self, epoch: int) -> _Plan:
        if epoch not in self._plans:
            order = np.random.default_rng((self._seed, epoch)).permutation(len(self._counts))
            before = np.cumsum(self._lengths[order]) - self._lengths[order]
            edges = np.flatnonzero(np.diff(before // self._together)) + 1
            groups = np.split(order, edges)
            _keep(self._plans, epoch, _Plan(groups, np.cumsum([self._counts[group].sum() for group in groups])))
        return self._plans[epoch]

    def _order(self, epoch: int, group: int) -> np.ndarray:
        key = (epoch, group)
        if key not in self._orders:
            videos = self._plan(epoch).groups[group]
            parts = [self._steps[self._begins[video] :][: self._counts[video]] for video in videos]
            mixed = np.random.default_rng((self._seed, epoch, group)).permutation(np.concatenate(parts))
            _keep(self._orders, key, mixed)
        return self._orders[key]


def _keep(kept: OrderedDict, key: object, value: object) -> None:
    """Add what was worked out; only the latest two stay, for a batch may lie in two epochs."""
    kept[key] = value
    while len(kept) > 2:
        kept.popitem(last=False)
