"""Weight averages of block-sparse models by torch.optim.swa_utils.AveragedModel.

torch averages parameters slot by slot. That is right only while both models hold the same block in the same slot, and
with ``use_buffers`` it averages the integers of the block index as well. So before each update the averaged model takes
over the pattern of the trained one: kept blocks bring their averages along, new ones start from 0 as the dense average
of a weight that was 0 does, and dropped ones are lost.
"""

import functools
from collections.abc import Callable

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel

from procosm.sparse.weight import BlockWeight

Update = Callable[[AveragedModel, nn.Module], None]


def with_patterns(update: Update) -> Update:
    """``AveragedModel.update_parameters`` for models that may have block-sparse layers."""

    @functools.wraps(update)
    def update_parameters(self: AveragedModel, model: nn.Module) -> None:
        pairs = list(zip(_layers(self.module), _layers(model), strict=True))
        for averaged, trained in pairs:
            if not _same_pattern(averaged, trained):
                averaged.set_kept(trained.kept())
        update(self, model)
        if self.use_buffers:
            for averaged, trained in pairs:
                for name, tensor in vars(trained.index).items():
                    getattr(averaged, name).copy_(tensor)

    return update_parameters


def _layers(model: nn.Module) -> list[BlockWeight]:
    return [layer for layer in model.modules() if isinstance(layer, BlockWeight)]


def _same_pattern(a: BlockWeight, b: BlockWeight) -> bool:
    return all(torch.equal(getattr(a, name), getattr(b, name).to(a.rows.device)) for name in ("cols", "row_ptr"))


AveragedModel.update_parameters = with_patterns(AveragedModel.update_parameters)  # type: ignore[method-assign, assignment]
