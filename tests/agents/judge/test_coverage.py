"""Do 95 % intervals hold the truth 95 times in a hundred? Simulated, at the sizes at which results are given.

A panel is made like those of a ranking: runs of four policies that share most of what they are, and single ones.
"""

import numpy as np
import pytest
from scipy.special import ndtr

from procosm.agents.judge import by_run
from procosm.agents.judge.by_run import FISHER, SHARE, another_panel, jackknife
from procosm.agents.judge.intervals import estimate, interval
from procosm.agents.judge.stats import mmrv, pearson, regret, top_k

SIZES = [4] * 12 + [1] * 10
RUNS = np.repeat(np.arange(len(SIZES)), SIZES)
SHARED = 0.7
"""Share of a policy's variance that is its run's."""


def panel(rng: np.random.Generator, noise: float, runs: np.ndarray = RUNS) -> tuple[np.ndarray, np.ndarray]:
    """Scores in both worlds, crowded at both ends as returns are."""
    own, run = rng.normal(size=(2, len(runs))), rng.normal(size=(2, runs.max() + 1))[:, runs]
    score, error = np.sqrt(SHARED) * run + np.sqrt(1 - SHARED) * own
    return ndtr(2 * score), ndtr(2 * (score + noise * error))


HONEST = 0.9
"""Share of samples whose interval holds the truth, at least; seen: .93 to .95, and .86 for a bootstrap of policies."""


@pytest.mark.parametrize("noise", [0.1, 0.35, 1.0])
def test_an_interval_over_runs_holds_the_correlation(noise):
    rng, panels = np.random.default_rng(1), 600
    true = float(pearson(*panel(rng, noise, np.repeat(np.arange(10_000), 4))))
    found = [jackknife(pearson, *panel(rng, noise), runs=RUNS.tolist(), scale=FISHER) for _ in range(panels)]
    assert np.mean([each.low <= true <= each.high for each in found]) > HONEST


def test_an_interval_over_policies_does_not():
    """The control: what was done before, and why it is not."""
    rng, panels = np.random.default_rng(1), 400
    true = float(pearson(*panel(rng, 0.35, np.repeat(np.arange(10_000), 4))))
    found = [interval(pearson, *panel(rng, 0.35), method="bca") for _ in range(panels)]
    assert np.mean([each.low <= true <= each.high for each in found]) < HONEST


@pytest.mark.parametrize("noise", [0.1, 0.35, 1.0])
def test_an_interval_over_runs_holds_the_rank_violation(noise):
    """Of panels of this size: MMRV is a mean of largest violations, and grows with the panel."""
    rng, panels = np.random.default_rng(2), 400
    true = np.mean([mmrv(*panel(rng, noise)) for _ in range(1000)])
    found = [jackknife(mmrv, *panel(rng, noise), runs=RUNS.tolist(), scale=SHARE) for _ in range(panels)]
    assert np.mean([each.low <= true <= each.high for each in found]) > HONEST


@pytest.mark.parametrize(
    ("n", "draw", "true"),
    [
        (3, lambda rng, n: rng.normal(size=n), 0.0),
        (10, lambda rng, n: rng.random(n), 0.5),
        (20, lambda rng, n: np.where(rng.random(n) < 0.5, 1000.0, rng.uniform(0, 1000, n)), 750.0),
        (100, lambda rng, n: np.where(rng.random(n) < 0.9, 1000.0, rng.uniform(0, 1000, n)), 950.0),
    ],
    ids=["3 seeds", "10 episodes", "20 episodes, half at the cap", "100 episodes, nine of ten at the cap"],
)
def test_an_interval_holds_the_mean(n, draw, true):
    rng, samples = np.random.default_rng(3), 600
    found = [estimate(draw(rng, n)) for _ in range(samples)]
    assert np.mean([each.low <= true <= each.high for each in found]) > HONEST


def test_what_cannot_be_left_out_is_refused():
    with pytest.raises(ValueError, match="three or more"):
        jackknife(pearson, np.arange(4.0), np.arange(4.0), runs=[0, 0, 1, 1])
    with pytest.raises(ValueError, match="without one of the runs"):
        jackknife(pearson, np.array([0.0, 1, 0]), np.array([0.0, 1, 0]), runs=[0, 1, 2], scale=FISHER)


def test_of_means_it_is_students_interval():
    """A mean of single policies, left out one by one: the jackknife is Student's t exactly."""
    values = np.random.default_rng(4).exponential(size=12)
    found = jackknife(lambda x: x.mean(axis=-1), values, runs=range(12))
    half = 2.200985160082949 * values.std(ddof=1) / np.sqrt(12)  # t of 11 degrees of freedom, at .975
    assert (found.low, found.high) == pytest.approx((values.mean() - half, values.mean() + half))


@pytest.mark.parametrize("noise", [0.1, 0.35, 1.0])
@pytest.mark.parametrize(
    "statistic", [regret, lambda x, y: top_k(x, y, 1), lambda x, y: top_k(x, y, 3)], ids=["regret", "top-1", "top-3"]
)
def test_what_jumps_lies_in_another_panel_where_it_is_told_to(statistic, noise, monkeypatch):
    """Fresh panels against the interval of each of some panels: what somebody meets who makes another."""
    monkeypatch.setattr(by_run, "RESAMPLES", 100)
    rng = np.random.default_rng(6)
    fresh = np.array([statistic(*panel(rng, noise)) for _ in range(200)])
    found = [another_panel(statistic, *panel(rng, noise), runs=RUNS.tolist()) for _ in range(40)]
    assert np.mean([(each.low <= fresh) & (fresh <= each.high) for each in found]) > HONEST


def test_the_regret_of_another_panel_is_missed_where_runs_are_drawn_with_replacement():
    """The control: the percentile bootstrap of runs, as it was done before."""
    rng, own = np.random.default_rng(6), [np.flatnonzero(run == RUNS) for run in range(len(SIZES))]
    fresh = np.array([regret(*panel(rng, 1.0)) for _ in range(200)])
    held = []
    for _ in range(40):
        real, dreamed = panel(rng, 1.0)
        drawn = [np.concatenate([own[run] for run in rng.integers(len(own), size=len(own))]) for _ in range(100)]
        low, high = np.percentile([regret(real[each], dreamed[each]) for each in drawn], [2.5, 97.5])
        held.append((low <= fresh) & (fresh <= high))
    assert np.mean(held) < HONEST


def test_the_value_itself_lies_within():
    real = np.arange(8.0)
    found = another_panel(regret, real, np.array([0.0, 9, 2, 3, 4, 5, 6, 7]), runs=range(8))
    assert found.low <= found.value == 6.0 <= found.high
