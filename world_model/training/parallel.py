"""Training on several processes: each takes its part of every batch, and all of them take the same step.

``torchrun --nproc-per-node 2 -m procosm.agents.cli train …`` begins them; where nobody did, one process does the same
alone. A stage asks ``data.share`` which rows of a batch are its own. One that does not ask computes the whole batch in
every process, which is slower and just as right.
"""

import contextlib
import datetime
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, TypeVar

import torch
import torch.distributed as dist
from annotated_types import Interval
from torch import Tensor

from procosm.world_model.errors import ProcosmError
from procosm.world_model.settings import Count, Settings, SettingsError

PATIENCE = datetime.timedelta(minutes=10)
"""How long a process waits for another one that lives and does not answer."""

T = TypeVar("T")


@dataclass(frozen=True)
class Parallel(Settings):
    """How the steps of a stage are shared out and kept small."""

    kind: Literal["ddp", "fsdp"] = "ddp"
    """ddp: every process has all weights. fsdp: each has a part of the weights, gradients and optimizer's state."""
    accumulate: Count = 1
    """Parts, one after another, that a process takes its rows of a batch in."""
    recompute: bool = False
    """Work activations of the blocks out again in the backward pass instead of keeping them."""
    ema: Annotated[float, Interval(ge=0, lt=1)] = 0.0
    """Share of the old average in the average of the weights that a stage ends with; 0 ends with the last weights."""


ALONE = Parallel()


def rank() -> int:
    """Number of this process, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def processes() -> int:
    """How many train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def check_shares(batches: Mapping[str, int], how: Parallel) -> None:
    """Refuse, before the work, batches of stages that cannot be shared out evenly.

    Raises:
        SettingsError: and the batch that cannot.
    """
    if how.kind == "fsdp" and processes() == 1:
        raise SettingsError("--parallel fsdp has nobody to share the weights with: begin several by torchrun")
    for name, batch in batches.items():
        if batch % (processes() * how.accumulate):
            raise SettingsError(
                f"a batch of {batch} ({name}) cannot be taken in {processes() * how.accumulate} equal parts: "
                f"{processes()} processes, --accumulate {how.accumulate}"
            )


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Join the processes that torchrun began, if it did; within another ``joined`` nothing is done.

    All but the first are silent. Several processes of CUDA devices take one each, by their numbers on the machine.

    Raises:
        ProcosmError: another process has ended or does not answer; what is saved is kept.
    """
    if processes() > 1 or int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield
        return
    try:
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise ProcosmError(f"the processes cannot be joined ({error}): begin them with torchrun") from error
    try:
        with contextlib.ExitStack() as stack:
            if rank() > 0:
                stack.enter_context(contextlib.redirect_stderr(stack.enter_context(open(os.devnull, "w"))))  # noqa: PTH123
            yield
    except RuntimeError as error:
        if not isinstance(error, dist.DistError) and not any(word in str(error) for word in ("gloo", "NCCL")):
            raise
        raise ProcosmError(
            f"process {rank()} of {processes()} has lost another one, which was ended or does not answer: run the same "
            "command again, with as many processes as you like, and training goes on from its last save"
        ) from error
    finally:
        dist.destroy_process_group()


def lead(stage: Callable[[Callable[[], T]], T], work: Callable[[], T], follow: Callable[[], object]) -> T | None:
    """What ``stage`` makes of ``work`` in the first process; if it begins it, the others ``follow``, and get None."""
    if processes() == 1:
        return stage(work)
    if rank() > 0:
        if decide(0):
            follow()
        return None
    begun = False

    def begin() -> T:
        nonlocal begun
        begun = bool(decide(1))
        return work()

    try:
        return stage(begin)
    finally:
        if not begun:
            decide(0)


@contextlib.contextmanager
def first_alone() -> Iterator[None]:
    """The first process does this before the others do, who find what it has written."""
    if rank() > 0:
        decide(0)
    yield
    if rank() == 0:
        decide(0)


def decide(wish: int) -> int:
    """The greatest wish of all processes, in each of them."""
    if processes() == 1:
        return wish
    wishes = torch.tensor(wish)
    dist.all_reduce(wishes, dist.ReduceOp.MAX)
    return int(wishes)


@torch.no_grad()
def mean(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The mean of single numbers over all processes, by name."""
    if processes() == 1 or not values:
        return dict(values)
    together = torch.stack([value.detach().double() for value in values.values()])
    dist.all_reduce(together)
    return dict(zip(values, (together / processes()).unbind(), strict=True))
