"""What an optimizer remembers of each weight, when blocks come and go."""

import torch
from torch import Tensor
from torch.optim import Optimizer

from procosm.sparse import matrix
from procosm.sparse.errors import SparseError
from procosm.sparse.sharded import whole, write

# State that does not start at zero: optimizer, its name, and the setting of the group it starts from.
_STARTS = ((torch.optim.Rprop, "step_size", "lr"), (torch.optim.Adagrad, "sum", "initial_accumulator_value"))


def check_optimizer(optimizer: Optimizer) -> None:
    """Raise SparseError for an optimizer whose memory is not kept parameter by parameter."""
    if isinstance(optimizer, torch.optim.LBFGS):
        raise SparseError(
            "LBFGS keeps one vector for all parameters, which cannot follow blocks: take another optimizer"
        )


def carry_moments(optimizer: Optimizer, parameter: Tensor, source: Tensor) -> None:
    """Move every state of ``parameter`` whose first axis is the slots as its blocks moved; fresh slots start anew.

    Args:
        source: int64 (c,), for each slot the slot it had before, -1 for a fresh one.

    Raises:
        SparseError: the optimizer keeps something else that cannot move with the blocks.
    """
    for name, moment in optimizer.state.get(parameter, {}).items():
        if moment is None or isinstance(moment, (int, float)) or (isinstance(moment, Tensor) and moment.numel() == 1):
            continue  # a count of steps
        if not isinstance(moment, Tensor) or moment.shape[0] != source.numel():
            raise SparseError(
                f"{type(optimizer).__name__} keeps {name!r} of a weight in a form that cannot follow its blocks: take "
                "an optimizer whose state has the shape of the weight"
            )
        fresh = (source < 0).view(-1, *[1] * (moment.ndim - 1))
        moved = matrix.carry(whole(moment), source)
        write(moment, moved.masked_fill_(fresh, _start_of(optimizer, parameter, name)))


def reset_moments(optimizer: Optimizer, parameter: Tensor, alive: Tensor) -> None:
    """Start the state of those weights anew that are False in ``alive``, bool of the parameter's shape."""
    for name, moment in optimizer.state.get(parameter, {}).items():
        if isinstance(moment, Tensor) and moment.shape == parameter.shape:
            moment.masked_fill_(~alive, _start_of(optimizer, parameter, name))


def _start_of(optimizer: Optimizer, parameter: Tensor, name: str) -> float:
    for kind, state, setting in _STARTS:
        if isinstance(optimizer, kind) and name == state:
            group = next(g for g in optimizer.param_groups if any(p is parameter for p in g["params"]))
            return float(group[setting])
    return 0.0
