"""Where batches of frames come from: windows of a table, whose frames lie in memory, on disk, or in videos."""

import math
from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from procosm.world_model.data import on_disk
from procosm.world_model.data.epochs import Epochs
from procosm.world_model.data.share import Share
from procosm.world_model.data.windows import Table, draw


@dataclass(frozen=True)
class Source:
    """Batches of a table. What a step sees is a function of (seed, step, rank), so that training goes on anywhere.

    Attributes:
        table: episodes end to end. size: windows in a batch, those of all processes together. seed: of the order.
        in_epochs: every window once an epoch, few episodes at a time, as suits video that is decoded as it is asked
            for; else each is drawn from all.
    """

    table: Table
    size: int
    seed: int
    in_epochs: bool = False

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Tensor:
        """(size / world_size,) frames that the steps of this process's windows leave; together they are the batch."""
        rows = Share(rank, world_size).rows(self.size)
        if not self.in_epochs:
            return draw(self.table, self.size, self.seed, step)[0][rows]
        # In the table's order, so that each process decodes other episodes than the others do.
        whole = self._epochs.windows(step * self.size, self.size).sort().values
        return whole[rows].to(self.table.device)

    @cached_property
    def _epochs(self) -> Epochs:
        frame = math.prod(self.table.frames.shape[1:])
        return Epochs(self.table, self.seed, max(1, on_disk.MIXED // frame))
