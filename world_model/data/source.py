"""Where batches come from: windows of a table, whose frames may lie in memory or on disk."""

from dataclasses import dataclass

from torch import Tensor

from procosm.world_model.data.share import Share
from procosm.world_model.data.windows import Table, draw


@dataclass(frozen=True)
class Source:
    """Batches of a table. What a step sees is a function of (seed, step, rank), so that training goes on anywhere.

    Attributes:
        table: episodes end to end. size: windows in a batch, those of all processes together. seed: of the order.
    """

    table: Table
    size: int
    seed: int

    def batch(self, step: int, rank: int = 0, world_size: int = 1) -> Tensor:
        """(size / world_size,) frames that the steps of this process's windows leave; together they are the batch."""
        return draw(self.table, self.size, self.seed, step)[0][Share(rank, world_size).rows(self.size)]
