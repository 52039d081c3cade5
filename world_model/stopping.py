"""Ctrl-C, SIGTERM and a closed terminal wait until long work is at a point from which it can go on."""

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

SAVE_SECONDS = 20.0
"""Work between two saves, at most: half a minute, with room for one slow step."""
STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP; whatever cleans up after Ctrl-C cleans up after them."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """SIGTERM and SIGHUP raise :class:`Terminated`, as Ctrl-C raises KeyboardInterrupt; ignored ones stay ignored."""

    def stop(number: int, frame: FrameType | None) -> None:
        raise Terminated(number)

    with _handlers(stop, STOPPING[1:]):
        yield


@contextlib.contextmanager
def signals_wait() -> Iterator[Callable[[], bool]]:
    """Hold a signal back; gives a function that says whether one came.

    It acts when the context ends, as it would have before. A second one does not wait.
    """
    came: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if came:
            restore()
            signal.raise_signal(number)
            return
        came.append(number)
        with contextlib.suppress(OSError):  # not print, which may be what was interrupted
            os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, b"\nSaving, then stopping.\n")

    with contextlib.ExitStack() as stack:
        stack.enter_context(_handlers(note, STOPPING))
        restore = stack.close
        yield lambda: bool(came)
    if came:
        signal.raise_signal(came[0])


@contextlib.contextmanager
def _handlers(handler: Any, numbers: tuple[signal.Signals, ...]) -> Iterator[None]:
    """Handle signals so; nothing changes in other threads than the first, and for signals that are ignored."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number, old in before.items():
            if old not in (signal.SIG_IGN, None):
                signal.signal(number, handler)
        yield
    finally:
        for number, old in before.items():
            if old is not None:
                signal.signal(number, old)
