"""Threads that each do work of their own, on one torch thread, instead of meeting inside every operation.

Left to torch, each operation wakes every OpenMP thread and waits for all. Where another process holds one of the
cores, each of hundreds of waits then lasts a slice of the scheduler: a product that takes 14 ms on one core took 1.3 s
on two (LOG.md, 2026-11-24). Here each thread runs its share of the operations alone.

A fork leaves a child without its parent's threads, those of OpenMP included, and GNU's OpenMP waits for them for ever:
a child begins with one torch thread.
"""

import os
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from threading import Barrier

import torch

LEAST_FLOPS = 5e7  # below this, handing work to other threads costs about what they save


def spread(work: Callable[[int, int], None], starts: Sequence[int], flops: float) -> None:
    """Call ``work(first, last)`` for parts of the lines 0 to len(starts) - 1, one part a thread of torch's count.

    Args:
        work: does lines first to last - 1; parts may run at the same time, each on one core. An exception comes back.
        starts: where each line's units begin, as in a row pointer; the parts hold about equally many units.
        flops: operations of one unit.
    """
    threads, lines, units = torch.get_num_threads(), len(starts) - 1, starts[-1]
    if threads == 1 or flops * units < LEAST_FLOPS:
        work(0, lines)
        return
    cuts = [bisect_left(starts, units * part / threads) for part in range(threads)] + [lines]
    for _ in workers(threads).map(_without_autograd, [work] * threads, cuts[:-1], cuts[1:]):
        pass  # the results are None; an exception of a thread is raised here


def _without_autograd(work: Callable[[int, int], None], first: int, last: int) -> None:
    with torch.inference_mode():  # a thread starts with autograd on, whatever its caller had
        work(first, last)


@lru_cache(maxsize=1)
def workers(threads: int) -> ThreadPoolExecutor:
    """A pool of as many threads, kept for the next who asks; each has one torch thread."""
    everyone = Barrier(threads + 1)

    def alone() -> None:
        torch.get_num_threads()  # torch sets a thread's number up when first asked, and would undo the next line
        torch.set_num_threads(1)
        everyone.wait()

    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, "procosm-threads", initializer=alone)
    for _ in range(threads):
        pool.submit(int)
    everyone.wait()
    torch.set_num_threads(before)  # what threads to come begin with, which those of the pool have changed
    return pool


def _begin_child() -> None:
    workers.cache_clear()
    torch.set_num_threads(1)


os.register_at_fork(after_in_child=_begin_child)
