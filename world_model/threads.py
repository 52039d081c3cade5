"""Steps and tasks of a world model on one torch thread each, side by side instead of meeting inside every operation.

Why: see ``procosm.sparse.threads``, whose pool of threads does the work.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from threading import local
from typing import TypeVar

import torch

from procosm.sparse.threads import workers

T = TypeVar("T")
_outside = local()


@contextmanager
def one_thread() -> Iterator[None]:
    """Torch runs on the calling thread alone, and on as many threads as before afterwards. Also a decorator."""
    if getattr(_outside, "threads", 0):
        yield
        return
    _outside.threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(_outside.threads)
        _outside.threads = 0


def allowed_threads() -> int:
    """How many threads torch has, or had outside of ``one_thread``."""
    return getattr(_outside, "threads", 0) or torch.get_num_threads()


def run_each(tasks: Sequence[Callable[[], T]]) -> list[T]:
    """The results of ``tasks``, in order. Each runs on one torch thread, as many at a time as torch has threads.

    Whoever is free takes the next task, so a thread whose core is busy with something else does fewer. An exception of
    a task comes back.
    """
    threads = allowed_threads()
    if threads == 1 or len(tasks) == 1:
        with one_thread():
            return [task() for task in tasks]
    inference, grad = torch.is_inference_mode_enabled(), torch.is_grad_enabled()
    return list(workers(threads).map(partial(_call, inference, grad), tasks))


def _call(inference: bool, grad: bool, task: Callable[[], T]) -> T:
    with torch.inference_mode(inference), torch.set_grad_enabled(grad):  # as its caller has them
        return task()


def _begin_child() -> None:
    if getattr(_outside, "threads", 0):
        _outside.threads = 1  # a fork begins with one torch thread


os.register_at_fork(after_in_child=_begin_child)
