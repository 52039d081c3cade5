"""A CUDA device that is none: tensors that compute on the CPU, say that they are elsewhere, and refuse to mix.

Inside ``elsewhere`` torch believes in one CUDA device. What is made there or sent there is an ``Elsewhere``, and an
operation of one with a CPU tensor of more than one number is a ``Mismatch``, as it would be an error on a real device
(and, where CUDA would take an index from the CPU, a wait). Whatever a real device would have to be waited for is noted.
So the same code runs as on a GPU, every branch taken, with the CPU's numbers.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from procosm.sparse import autograd, cpu, optim

DEVICE = torch.device("cuda", 0)


class Mismatch(AssertionError):
    """An operation was given tensors of two devices."""


class Elsewhere(torch.Tensor):
    """A tensor of the device; ``inner`` holds its numbers."""

    @staticmethod
    def __new__(cls, inner: torch.Tensor) -> "Elsewhere":
        # To C++ it is a meta tensor, for there is no CUDA behind it; to Python it is on the device.
        return torch.Tensor._make_wrapper_subclass(
            cls, inner.shape, inner.stride(), inner.storage_offset(), dtype=inner.dtype, device="meta"
        )

    def __init__(self, inner: torch.Tensor) -> None:
        self.inner = inner

    device = property(lambda self: DEVICE)
    is_cuda = property(lambda self: True)
    is_cpu = is_meta = property(lambda self: False)

    __torch_function__ = torch._C._disabled_torch_function_impl

    def __repr__(self) -> str:
        return f"Elsewhere({self.inner!r})"

    def data_ptr(self) -> int:
        return self.inner.data_ptr()

    def __deepcopy__(self, memo: dict) -> torch.Tensor:
        copied = self.detach().clone()
        if isinstance(self, torch.nn.Parameter):
            copied = torch.nn.Parameter(copied, self.requires_grad)
        return memo.setdefault(id(self), copied)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        raise Mismatch(f"{function} of a tensor of the device outside its mode")


class Device(TorchDispatchMode):
    """Runs every operation on the CPU, checks where its tensors are, and notes what would wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = function.name().removeprefix("aten::").split(".")[0]
        flat = [x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.Tensor)]
        there = [x for x in flat if isinstance(x, Elsewhere)]
        target = next((x for x in tree_leaves((args, kwargs)) if isinstance(x, torch.device)), None)
        leads = bool(there) if target is None else target.type in ("cuda", "meta")
        if kwargs.get("pin_memory"):
            kwargs["pin_memory"] = False
        sent = name in ("_to_copy", "to")  # inference mode leaves "to" whole
        if there and not sent and name != "copy_":
            strange = [x for x in flat if not isinstance(x, Elsewhere) and x.dim()]
            if strange:
                raise Mismatch(f"{name} of {DEVICE} tensors with CPU tensors {[tuple(x.shape) for x in strange]}")
        blocks = not (kwargs.get("non_blocking") or any(x is True for x in args))
        if sent and leads and not there and blocks:
            self.waits.append("sent")
        if there and (
            name in ("_local_scalar_dense", "item", "nonzero", "equal", "is_nonzero")
            or (sent and not leads)
            or (name == "copy_" and not isinstance(args[0], Elsewhere))
            or (name in ("index", "index_put_") and any(i is not None and i.dtype == torch.bool for i in args[1]))
        ):
            self.waits.append(name)
        out = function(*tree_map(self._inner, args), **tree_map(self._inner, kwargs))
        if function._schema.is_mutable:
            return self._mutated(function, args, kwargs, out)
        return tree_map(lambda x: self._outer(x, leads), out)

    def unnoted(self, function: Callable) -> Callable:
        """The function without its waits: a kernel's stand-in reads on the CPU what the kernel reads on the device."""

        def run(*args, **kwargs):
            before = len(self.waits)
            out = function(*args, **kwargs)
            del self.waits[before:]
            return out

        return run

    @staticmethod
    def _inner(x):
        if isinstance(x, torch.device):
            return torch.device("cpu")
        return x.inner if isinstance(x, Elsewhere) else x

    @staticmethod
    def _outer(x, leads: bool):
        if not leads or not isinstance(x, torch.Tensor):
            return x
        with torch.inference_mode(False):  # a view of an ordinary tensor is none of inference mode
            return Elsewhere(x)

    @staticmethod
    def _mutated(function, args, kwargs, out):
        """What an operation in place returns: its own argument."""
        for i, argument in enumerate(function._schema.arguments):
            if argument.alias_info is not None and argument.alias_info.is_write and function._schema.returns:
                return kwargs[argument.name] if argument.name in kwargs else args[i]
        return out


def _tensor(made: Callable, values, device=None, **how) -> torch.Tensor:
    return made(values, device="cpu", **how).to(device or made([]).device)


@contextmanager
def elsewhere() -> Iterator[Device]:
    """A machine with the device."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {
            "_lazy_init": lambda: None,
            "is_available": lambda: True,
            "device_count": lambda: 1,
            "current_device": lambda: 0,
            "synchronize": lambda device=None: None,
            "is_bf16_supported": lambda: False,  # autocast needs C++ to know the device; all is in float32
            "get_device_capability": lambda device=None: (8, 0),
            "get_device_name": lambda device=None: "a device that is none",
            "mem_get_info": lambda device=None: (1 << 30, 1 << 30),
            "is_current_stream_capturing": lambda: True,  # runs eagerly what would be recorded as a graph
        }.items():
            patch.setattr(torch.cuda, name, value)
        patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
        patch.setattr(torch, "tensor", partial(_tensor, torch.tensor))
        for module in (autograd, optim):
            patch.setattr(module, "backend", lambda tensor: stand_in)
        with Device() as device:
            stand_in = SimpleNamespace(**{n: device.unnoted(f) for n, f in vars(cpu).items() if callable(f)})
            yield device
