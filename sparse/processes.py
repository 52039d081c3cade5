"""Worker processes: they import what their parent does, use one core each, and end when it does, however it ends."""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import active_children, parent_process, resource_tracker
from multiprocessing.connection import wait
from multiprocessing.context import SpawnContext, SpawnProcess
from types import ModuleType
from typing import ClassVar

_ENVIRONMENT = {
    # One core each: threads of OpenMP, BLAS and OpenGL would fight over them.
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "LP_NUM_THREADS": "0",
    # An interpreter that is given a command looks for modules in the working folder first, before it is told where its
    # parent does: a random.py that lies there would be imported.
    "PYTHONSAFEPATH": "1",
}


@contextmanager
def worker_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """A pool of ``count`` processes, for functions and arguments that can be pickled.

    They are not forked: a child of a process that holds a GL context or OpenMP threads hangs. Where the block ends with
    an exception they are killed; what they were doing is lost, what they wrote is kept.
    """
    with _environment():
        resource_tracker.ensure_running()  # a process, too, which the pool would start outside
    pool = ProcessPoolExecutor(count, _Context(), initializer=_watch_parent)
    try:
        yield pool
    except BaseException:
        for child in active_children():
            if isinstance(child, _Worker):
                child.kill()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


class _Worker(SpawnProcess):
    def start(self) -> None:
        # The user's script is not run again in a worker: it need not be written for that, and nothing here is from it.
        script, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            with _environment():
                super().start()
        finally:
            sys.modules["__main__"] = script


class _Context(SpawnContext):
    Process: ClassVar[type[SpawnProcess]] = _Worker


@contextmanager
def _environment() -> Iterator[None]:
    """What a process that is started within finds in its environment."""
    before = {name: os.environ.get(name) for name in _ENVIRONMENT}
    os.environ.update(_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _watch_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches them, too; their parent decides, and kills them
    threading.Thread(target=_end_with_parent, name="procosm-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None  # this is a worker
    # The sentinel tells at once, unless a fork of the parent lives on and holds its other end: then the number does.
    while os.getppid() == parent.pid and not wait([parent.sentinel], timeout=1.0):
        pass
    os._exit(1)
