"""Statistics of agreement against SciPy, against plain loops, and their intervals against simulated coverage."""

import numpy as np
import pytest
from scipy import stats as scipys

from procosm.agents.judge import stats
from procosm.agents.judge.intervals import interval


@pytest.fixture(params=["smooth", "tied"])
def scores(request):
    generator = np.random.default_rng(3)
    real = generator.normal(size=25)
    dreamed = real + generator.normal(size=25)
    return (real, dreamed) if request.param == "smooth" else (np.round(real), np.round(dreamed))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (stats.pearson, scipys.pearsonr),
        (stats.spearman, scipys.spearmanr),
        (stats.kendall, scipys.kendalltau),
    ],
)
def test_correlations_are_scipys_alone_and_in_batches(ours, theirs, scores):
    real, dreamed = scores
    assert ours(real, dreamed) == pytest.approx(theirs(real, dreamed).statistic, abs=1e-12)
    draws = np.random.default_rng(4).integers(25, size=(7, 25))
    expected = [theirs(real[draw], dreamed[draw]).statistic for draw in draws]
    assert ours(real[draws], dreamed[draws]) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(ours(real, np.full(25, 0.1)))


def test_auroc_is_the_mann_whitney_statistic():
    generator = np.random.default_rng(5)
    label = generator.random(60) < 0.3
    score = np.round(generator.normal(size=60) + label, 1)  # with ties
    statistic = scipys.mannwhitneyu(score[label], score[~label]).statistic
    assert stats.auroc(score, label) == pytest.approx(statistic / (label.sum() * (~label).sum()))
    assert np.isnan(stats.auroc(score, np.ones(60)))


def test_mmrv_is_what_its_definition_says(scores):
    real, dreamed = scores
    worst = [
        max(abs(a - b) * ((s < t) != (a < b)) for b, t in zip(real, dreamed, strict=True))
        for a, s in zip(real, dreamed, strict=True)
    ]
    assert stats.mmrv(real, dreamed) == pytest.approx(np.mean(worst))


def test_a_perfect_and_an_inverted_ranking():
    real = np.array([0.0, 0.25, 1.0])
    assert stats.mmrv(real, 10 * real) == 0.0 and stats.mmrv(real, -real) == pytest.approx((1 + 0.75 + 1) / 3)
    assert stats.regret(real, real) == 0.0 and stats.regret(real, -real) == 1.0
    assert stats.regret(real, -real, k=2) == 0.75 and stats.regret(real, -real, k=3) == 0.0
    assert stats.top_k(real, real, k=2) == 1.0 and stats.top_k(real, -real, k=2) == 0.5
    assert stats.top_k(np.array([1.0, 1.0, 0.0]), np.array([0.0, 5.0, 1.0])) == 1.0  # equally good is good enough


def test_bias_is_in_units_of_the_real_panel():
    real, dreamed = stats.normalised(np.array([-40.0, -10.0, 0.0]), np.array([-36.0, -6.0, 4.0]))
    assert real.tolist() == [0.0, 0.75, 1.0] and stats.bias(real, dreamed) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="policies that differ"):
        stats.normalised(np.ones(4), np.arange(4.0))


def test_paired_differences_are_narrower_than_what_they_pair():
    generator = np.random.default_rng(6)
    common = generator.normal(0, 10, 80)
    found = stats.paired_difference(common + generator.normal(1, 1, 80), common)
    assert found.low <= 1.0 <= found.high and found.high - found.low < 0.6
    with pytest.raises(ValueError, match="not pairs"):
        stats.paired_difference(common, common[1:])


def pairs(generator, correlation, n):
    x = generator.normal(size=n)
    return x, correlation * x + np.sqrt(1 - correlation**2) * generator.normal(size=n)


@pytest.mark.parametrize(
    ("statistic", "truth"),
    [
        (stats.pearson, 0.8),
        (stats.spearman, 6 / np.pi * np.arcsin(0.4)),
        (stats.kendall, 2 / np.pi * np.arcsin(0.8)),
    ],
)
def test_intervals_of_correlations_hold_the_truth_about_as_often_as_they_say(statistic, truth, monkeypatch):
    monkeypatch.setattr("procosm.agents.judge.intervals.RESAMPLES", 400)
    generator = np.random.default_rng(7)
    trials = 100
    found = [interval(statistic, *pairs(generator, 0.8, 40), seed=i, method="bca") for i in range(trials)]
    covered = sum(each.low <= truth <= each.high for each in found)
    # 94 % was seen in longer simulations; three deviations of a share of 100 trials are 7 %.
    assert covered / trials >= 0.87
    # Nor are they too wide: 3.92 deviations of the statistic from sample to sample.
    width = np.mean([each.high - each.low for each in found])
    assert width == pytest.approx(3.92 * np.std([each.value for each in found]), rel=0.2)


def test_interval_of_auroc_holds_the_truth(monkeypatch):
    monkeypatch.setattr("procosm.agents.judge.intervals.RESAMPLES", 400)
    generator = np.random.default_rng(8)
    label = np.arange(120) % 3 == 0
    truth = scipys.norm.cdf(1 / np.sqrt(2))  # scores of both labels have deviation 1 and lie 1 apart
    found = [interval(stats.auroc, generator.normal(size=120) + label, label, seed=i) for i in range(60)]
    covered = sum(each.low <= truth <= each.high for each in found)
    assert covered / 60 >= 0.87  # three deviations below 95 %


def test_bad_draws_of_a_tiny_panel_are_left_out():
    found = interval(stats.pearson, np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.1, 1.0]))
    assert np.isfinite([found.low, found.high]).all() and found.n == 3
