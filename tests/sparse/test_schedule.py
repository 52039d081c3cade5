"""Clocks: the decay of the initial weights and the density."""

import pytest

from procosm.sparse.errors import SparseError
from procosm.sparse.schedule import check_density, density_at, initial_share


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
    assert density_at(0, 0.1, 0.9, 100) == 0.9
    assert density_at(50, 0.1, 0.9, 100) == pytest.approx(0.1 + 0.8 / 8)
    assert density_at(100, 0.1, 0.9, 100) == density_at(10**6, 0.1, 0.9, 100) == 0.1
    steps = [density_at(t, 0.1, 0.9, 100) for t in range(120)]
    assert steps == sorted(steps, reverse=True)
    assert density_at(0, 0.25) == 0.25


@pytest.mark.parametrize("wrong", [0.0, -0.1, 1.01, float("nan")])
def test_impossible_densities_are_refused(wrong):
    with pytest.raises(SparseError, match="outside"):
        check_density(wrong)
