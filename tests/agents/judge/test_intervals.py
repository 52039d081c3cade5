"""Intervals against SciPy's; what they cover is simulated in test_coverage.py."""

import numpy as np
import pytest
from scipy import stats

from procosm.agents.judge.intervals import estimate, interval


def test_a_mean_of_many_has_scipys_bca_interval():
    values = np.random.default_rng(0).exponential(3.0, 60)
    ours = estimate(values)
    scipys = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="BCa", rng=np.random.default_rng(1))
    assert ours.mean == pytest.approx(values.mean()) and ours.std == pytest.approx(values.std(ddof=1))
    # Two bootstraps differ by their own noise: the quantile of 2000 resampled means is known to about 0.06 deviations,
    # half again as much with BCa.
    tolerance = 0.2 * values.std() / np.sqrt(len(values))
    assert ours.low == pytest.approx(scipys.confidence_interval.low, abs=tolerance)
    assert ours.high == pytest.approx(scipys.confidence_interval.high, abs=tolerance)


def test_a_mean_of_few_has_scipys_t_interval():
    values = np.random.default_rng(1).exponential(3.0, 8)
    ours, scipys = estimate(values), stats.ttest_1samp(values, 0.0).confidence_interval()
    assert (ours.low, ours.high) == pytest.approx((scipys.low, scipys.high))


def test_equal_values_have_no_width_and_one_value_no_deviation():
    assert estimate(np.full(10, 1000.0)).as_dict() == {
        "mean": 1000.0,
        "std": 0.0,
        "low": 1000.0,
        "high": 1000.0,
        "n": 10,
    }
    assert estimate(np.array([3.0])).std == 0.0


@pytest.mark.parametrize("values", [np.array([]), np.array([1.0, np.nan]), np.ones((2, 2))])
def test_what_is_no_row_of_numbers_is_refused(values):
    with pytest.raises(ValueError, match="finite values"):
        estimate(values)


def ratio(x, y, axis=-1):
    return x.mean(axis=axis) / y.mean(axis=axis)


@pytest.mark.parametrize("method", ["percentile", "bca"])
def test_interval_of_a_skewed_statistic_of_pairs_agrees_with_scipys(method):
    generator = np.random.default_rng(9)
    x = generator.lognormal(0, 1.2, 30)
    y = x + generator.exponential(1.0, 30)
    ours = interval(ratio, x, y, method=method)
    settings = {"n_resamples": 20_000, "vectorized": True, "paired": True, "rng": np.random.default_rng(1)}
    theirs = stats.bootstrap((x, y), ratio, method=method, **settings).confidence_interval
    # The 2.5 % quantile of 2000 resamples is known to about 0.06 of their deviation, half again as much with BCa.
    tolerance = 0.12 * (theirs.high - theirs.low) / 4
    assert ours.value == pytest.approx(ratio(x, y))
    assert ours.low == pytest.approx(theirs.low, abs=tolerance) and ours.high == pytest.approx(
        theirs.high, abs=tolerance
    )


def test_bca_of_a_statistic_that_never_varies_has_no_width():
    found = interval(lambda x: x.max(axis=-1), np.full(5, 2.0), method="bca")
    assert (found.low, found.value, found.high) == (2.0, 2.0, 2.0)


def test_samples_that_are_not_pairs_are_refused():
    with pytest.raises(ValueError, match="equally many"):
        interval(ratio, np.ones(3), np.ones(4))
