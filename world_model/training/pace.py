"""How many threads the steps of a loop get: measured, and measured again now and then.

Two threads on two free cores are nearly twice as fast as one; where another process holds a core, each of the hundreds
of barriers in a step lasts a slice of the scheduler, and two threads are ten times slower than one. Which of the two it
is changes while a training runs.
"""

import os
import time
from collections import deque
from collections.abc import Iterable, Iterator
from statistics import median
from typing import TypeVar

import torch

from procosm.world_model.threads import allowed_threads

T = TypeVar("T")

TRIAL_STEPS = 3
SHARE = 20  # seconds of work for each second that trials cost
CLEARLY = 0.9  # a trial must take this share of the usual time or less


class Pace:
    """Chooses the number of torch threads for steps that do about the same work each.

    It begins with one thread; it tries twice as many, and one again. A number that the user set with
    ``OMP_NUM_THREADS`` is kept.

    Attributes:
        threads: what the next step gets.
    """

    def __init__(self, most: int | None = None) -> None:
        """Room for ``most`` threads; None for as many as torch has outside of ``one_thread``."""
        self._most = allowed_threads() if most is None else most
        self._fixed = most is None and "OMP_NUM_THREADS" in os.environ
        self.threads = self._most if self._fixed else 1
        self._recent: deque[float] = deque(maxlen=5)  # seconds of the latest steps with the chosen number
        self._tried: list[float] = []
        self._chosen = self.threads
        self._upwards = True
        self._pause = 0.0  # seconds of work until the next trial

    def over(self, steps: Iterable[T]) -> Iterator[T]:
        """The ``steps`` of a loop, whose body runs with ``threads`` threads; afterwards torch has its own number."""
        before = torch.get_num_threads()
        try:
            for step in steps:
                torch.set_num_threads(self.threads)
                began = time.perf_counter()
                yield step
                self.took(time.perf_counter() - began)
        finally:
            torch.set_num_threads(before)

    def took(self, seconds: float) -> None:
        """A step with ``threads`` threads took so long; decides what the next one gets."""
        if self._fixed or self._most == 1:
            return
        if self.threads != self._chosen:
            self._judge(seconds)
            return
        slowed = len(self._recent) == 5 and min(seconds, self._recent[-1]) > 2 * median(self._recent)
        self._recent.append(seconds)
        self._pause -= seconds
        if slowed and self._chosen > 1:
            self._upwards, self._pause = False, 0.0
        if self._pause <= 0 and len(self._recent) >= TRIAL_STEPS:
            self.threads = self._other()

    def _other(self) -> int:
        if self._chosen == 1 or (self._upwards and self._chosen < self._most):
            return min(2 * self._chosen, self._most)
        return 1  # from where the way up is short; half of too many can be too many

    def _judge(self, seconds: float) -> None:
        """A step of a trial: go on with it, take its number, or go back."""
        self._tried.append(seconds)
        usual, upwards = median(self._recent), self.threads > self._chosen
        if seconds < 2 * usual and len(self._tried) < TRIAL_STEPS:
            return
        better = min(self._tried) < CLEARLY * usual
        if better:
            self._chosen = self.threads
            self._recent = deque(self._tried[1:], maxlen=5)
            self._upwards, self._pause = upwards, 0.0  # perhaps the next one is better still
        else:
            self.threads = self._chosen
            self._upwards = not upwards
            self._pause = SHARE * max(sum(self._tried) - len(self._tried) * usual, usual)
        self._tried = []
