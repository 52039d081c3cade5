"""Tasks side by side on one torch thread each, and the user's number of threads given back."""

from collections.abc import Iterator
from contextlib import nullcontext
from functools import partial
from threading import Barrier

import pytest
import torch

from procosm.world_model.threads import one_thread, run_each


@pytest.fixture
def three() -> Iterator[None]:
    """Three threads for a test, however many cores there are."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("nested", [False, True])
def test_tasks_run_side_by_side_on_one_torch_thread_each(three: None, nested: bool) -> None:
    met = Barrier(3, timeout=60)

    def task(number: int) -> tuple[int, int, bool]:
        met.wait()  # opens only when three tasks run at the same time
        return number, torch.get_num_threads(), torch.is_inference_mode_enabled()

    with one_thread() if nested else nullcontext(), torch.inference_mode():
        found = run_each([partial(task, number) for number in range(6)])
    assert found == [(number, 1, True) for number in range(6)]
    assert torch.get_num_threads() == 3


def test_one_thread_gives_back_what_it_took_even_after_an_error(three: None) -> None:
    with pytest.raises(ArithmeticError), one_thread():
        with one_thread():
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 1
        raise ArithmeticError
    assert torch.get_num_threads() == 3
