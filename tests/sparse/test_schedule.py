"""Clocks: the decay of the initial weights and the density."""

import pytest

from procosm.sparse.errors import SparseError
from procosm.sparse.schedule import DensityConfig, initial_share


def test_initial_share_is_the_running_product_and_snaps_to_zero_after_219_steps():
    share, t = 1.0, 0
    while share >= 1e-10:
        assert initial_share(t, 0.9) == share
        share, t = share * 0.9, t + 1
    assert t == 219
    assert initial_share(218, 0.9) > 0
    assert [initial_share(s, 0.9) for s in (219, 220, 10**9)] == [0.0, 0.0, 0.0]


def test_initial_share_without_decay_and_without_a_first_phase():
    assert initial_share(10**9, 1.0) == 1.0
    assert (initial_share(0, 0.0), initial_share(1, 0.0)) == (1.0, 0.0)


def test_the_slower_decay_of_the_lightning_fork_lasts_4594_steps():
    assert initial_share(4593, 0.995) > 0
    assert initial_share(4594, 0.995) == 0.0


def test_cubic_density_starts_ends_and_only_falls():
    cubic = DensityConfig(0.1, "cubic", initial=0.9, ramp_steps=100)
    assert cubic.at(0) == 0.9
    assert cubic.at(50) == pytest.approx(0.1 + 0.8 / 8)
    assert cubic.at(100) == cubic.at(10**6) == 0.1
    steps = [cubic.at(t) for t in range(120)]
    assert steps == sorted(steps, reverse=True)
    assert DensityConfig(0.25).at(0) == 0.25


@pytest.mark.parametrize(
    "wrong", [{"final": 0.0}, {"final": 1.5}, {"kind": "cubic"}, {"kind": "cubic", "initial": 0.05, "ramp_steps": 9}]
)
def test_impossible_densities_are_refused(wrong):
    with pytest.raises(SparseError):
        DensityConfig(**wrong)
