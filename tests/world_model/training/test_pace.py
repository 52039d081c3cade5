"""The choice of threads on machines that are free, busy, and change: simulated times, then torch itself."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from procosm.world_model.threads import one_thread
from procosm.world_model.training.pace import Pace

Machine = Callable[[int, int], float]
"""Seconds of a step, from the number of threads and the number of the step."""


def free(threads: int, step: int) -> float:
    return 1 / threads**0.8


def busy(threads: int, step: int) -> float:
    return 1.0 if threads == 1 else 8.0


def half_busy(threads: int, step: int) -> float:
    return 1 / threads if threads <= 8 else 10.0


def no_gain(threads: int, step: int) -> float:
    return 1.0 + 0.05 * threads


def changing(threads: int, step: int) -> float:
    return (free, busy)[step // 300 % 2](threads, step)


def seconds(machine: Machine, most: int, steps: int, noise: float) -> tuple[float, float]:
    """What the choice takes, and the best number of threads of each moment."""
    pace, rng = Pace(most), np.random.default_rng(0)
    spent = best = 0.0
    for step in range(steps):
        assert 1 <= pace.threads <= most
        took = machine(pace.threads, step) * float(rng.lognormal(0, noise))
        spent += took
        best += min(machine(threads, step) for threads in range(1, most + 1))
        pace.took(took)
    return spent, best


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("most", [1, 2, 6, 16])
@pytest.mark.parametrize("machine", [free, busy, half_busy, no_gain, changing])
def test_it_takes_little_longer_than_the_best_number_of_each_moment(machine: Machine, most: int, noise: float) -> None:
    spent, best = seconds(machine, most, 1200, noise)
    assert spent < 1.4 * best * np.exp(noise**2 / 2)


def test_a_busy_machine_is_found_out_within_few_steps() -> None:
    pace = Pace(2)
    for _ in range(200):
        pace.took(1.0 if pace.threads == 1 else 0.55)
    assert pace.threads == 2
    slow = 0
    while pace.threads == 2:
        pace.took(6.0)
        slow += 1
    assert slow <= 5


def test_steps_run_on_the_chosen_number_and_the_users_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        assert {torch.get_num_threads() for _ in Pace().over(range(20))} >= {1, 2}
        assert torch.get_num_threads() == 3
        with one_thread():
            assert {torch.get_num_threads() for _ in Pace().over(range(20))} >= {1, 2}
            assert torch.get_num_threads() == 1
        monkeypatch.setenv("OMP_NUM_THREADS", "3")
        assert {torch.get_num_threads() for _ in Pace().over(range(20))} == {3}
    finally:
        torch.set_num_threads(before)
