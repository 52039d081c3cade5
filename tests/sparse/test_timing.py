"""A timing of products on a device: it finds the machine that made the times, and layers follow it."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from procosm.sparse import cost, machines, nn, timing

PLACE, WIDTH, TOKENS = ("cuda", 2), 4096, 8192


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Nothing that is timed here stays for other tests."""
    yield
    machines.TIMED.clear()


def test_the_machine_that_made_the_times_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    table = machines.machine(*PLACE)
    slower = {
        "rate": 3e14,
        "bandwidth": table.bandwidth * 3e14 / table.rate,
        "call_s": table.call_s * table.rate / 3e14,
    }
    real = replace(table, **slower, start_s=2e-5, efficiency={16: 0.03, 32: 0.1, 64: 0.2, 128: 0.45})
    kept = {b: round((WIDTH // b) ** 2 * timing.DENSITY) for b in real.efficiency}
    machines.TIMED[PLACE] = real

    def taken(block: int | None) -> float:
        return cost.step_seconds(TOKENS, (WIDTH, WIDTH), block, kept.get(block, 0), *PLACE)

    dense, times = taken(None), {block: taken(block) for block in kept}
    machines.TIMED.clear()
    found = timing.fitted(PLACE, WIDTH, TOKENS, 2e-5, dense, times, kept)
    assert found.rate == pytest.approx(3e14) and found.efficiency == pytest.approx(real.efficiency)
    assert machines.TIMED == {}


def test_times_that_leave_no_arithmetic_are_no_more_than_the_dense_rate() -> None:
    kept = {64: round((WIDTH // 64) ** 2 * timing.DENSITY)}
    assert timing.fitted(PLACE, WIDTH, TOKENS, 1e-4, 1e-3, {64: 1e-9}, kept).efficiency == {64: 1.0}


def test_layers_are_judged_by_what_was_timed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(timing.SIZES, "cpu", (256, 128))
    before = nn.Linear(256, 256, block=64, density=0.25).choice("cpu", torch.float32).reason
    timing.measure(torch.device("cpu"), [torch.float32])
    layer = nn.Linear(256, 256, block=64, density=0.25)
    assert "timed on this processor" in layer.choice("cpu", torch.float32).reason and "timed on" not in before
    assert "timed on" not in layer.choice("cpu", torch.bfloat16).reason
    assert all(0 < share <= 1 for share in machines.machine("cpu", 4).efficiency.values())
