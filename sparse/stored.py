"""Slots as files hold them: the empty ones at the end, which are headroom for blocks to come, are left out.

A ``values`` parameter is an ordinary ``nn.Parameter``, because torch's fused and foreach optimizers want exactly that
type. Pickle looks for ``__reduce_ex__`` on the object before its class, so the parameter carries one of its own.
"""

import weakref
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_REDUCE = "__reduce_ex__"


def trimmed(slots: Tensor) -> Tensor:
    """(n, ...) a copy without the slots after the last that holds anything but zeros; itself where that is all."""
    used = slots.detach().flatten(1).ne(0).any(1)
    places = torch.arange(1, len(slots) + 1, device=slots.device)
    n = int((used * places).max()) if len(slots) else 0
    return slots if n == len(slots) else slots.detach()[:n].clone()  # a slice would bring its whole storage along


def with_room(slots: Tensor, capacity: int) -> Tensor:
    """(capacity, ...) the slots, then empty ones; itself where there are as many."""
    if len(slots) == capacity:
        return slots
    room = slots.new_zeros(capacity, *slots.shape[1:])
    room[: len(slots)] = slots
    return room


def mark(values: nn.Parameter) -> None:
    """Let pickles of a layer's ``values`` leave out the empty slots at the end; not those of a shard."""
    if type(values) is nn.Parameter:
        setattr(values, _REDUCE, partial(_reduce, weakref.ref(values)))


def unmark(values: nn.Parameter) -> None:
    """Undo ``mark``; nothing where there is none."""
    vars(values).pop(_REDUCE, None)


def is_marked(parameter: Tensor) -> bool:
    """Whether a parameter holds the slots of a sparse layer, as a single process has them."""
    return _REDUCE in vars(parameter)


def restored(live: Tensor, capacity: int, requires_grad: bool, attributes: dict[str, Any]) -> nn.Parameter:
    """A ``values`` parameter from a pickle."""
    parameter = nn.Parameter(with_room(live, capacity), requires_grad)
    vars(parameter).update(attributes)
    mark(parameter)
    return parameter


def _reduce(reference: "weakref.ref[nn.Parameter]", protocol: int) -> tuple[Any, ...]:
    values = reference()
    assert values is not None  # it is being pickled
    attributes = {name: value for name, value in vars(values).items() if name != _REDUCE}
    live = values.data if values.is_meta else trimmed(values.data)
    return restored, (live, len(values), values.requires_grad, attributes)


# So that torch.load opens a list of parameters without running anything else.
torch.serialization.add_safe_globals([restored])
