"""What a ranking must beat: on an easy panel it does as well as the dream, on a hard one it does not."""

import numpy as np
import pytest
from scipy import stats

from procosm.agents.judge.ranking.agreement import Scores, agreement_rows
from procosm.agents.judge.ranking.controls import action_cost, bands, shuffled
from procosm.agents.judge.ranking.members import Member


def scores(real: np.ndarray, dreamed: np.ndarray, effort: np.ndarray | None = None) -> Scores:
    """One episode of each policy."""
    steps = np.ones((len(real), 1))
    return Scores("return", real[:, None], dreamed[:, None], steps, steps, None if effort is None else effort[:, None])


def found(scored: Scores, families: list[str] | None = None) -> dict[tuple[str, str], float]:
    families = families or ["ppo"] * len(scored.real)
    members = [Member(f"p{i}", family) for i, family in enumerate(families)]
    return {(row["panel"], row["metric"]): row["value"] for row in agreement_rows(members, scored) if "panel" in row}


def test_bands_are_cut_at_the_largest_gaps():
    real = np.array([100.0, 1.0, 3.0, 98.0, 40.0, 2.0])
    assert bands(real).tolist() == [2, 0, 0, 2, 1, 0]


def test_a_shuffle_keeps_bands_and_nothing_else():
    dreamed, band = np.arange(12.0), np.repeat([0, 1, 2], 4)
    dealt = np.stack(list(shuffled(dreamed, band)))
    assert all(sorted(each[band == b]) == sorted(dreamed[band == b]) for each in dealt for b in range(3))
    assert dealt[:, 0].std() > 0.5
    assert dealt[:, :4].mean() == pytest.approx(1.5), "the mean of a band's scores is its own"


def test_a_panel_of_three_clusters_is_easy_and_its_figures_say_so():
    """A dream that knows only which cluster a policy is in has r .99 on it, and so has the shuffle."""
    rng = np.random.default_rng(0)
    centre = np.repeat([0.0, 500.0, 1000.0], 12)
    rows = found(scores(centre + rng.normal(0, 20, 36), centre + rng.normal(0, 20, 36)))
    assert rows["all", "Pearson r"] > 0.99
    assert rows["control: shuffled within bands", "Pearson r"] == pytest.approx(rows["all", "Pearson r"], abs=0.005)
    assert all(abs(rows[f"band {b} of 3", "Pearson r"]) < 0.6 for b in (1, 2, 3))


def test_a_dream_that_knows_more_than_clusters_beats_the_shuffle():
    real = np.random.default_rng(1).uniform(0, 1000, 36)
    rows = found(scores(real, real + np.random.default_rng(2).normal(0, 20, 36)))
    assert rows["control: shuffled within bands", "Pearson r"] < rows["all", "Pearson r"] - 0.2


def test_the_cost_of_actions_ranks_a_reward_that_is_little_else():
    rng = np.random.default_rng(3)
    effort = rng.uniform(0, 50, 30)
    real = -effort + rng.normal(0, 1, 30)
    rows = found(scores(real, real + rng.normal(0, 5, 30), effort))
    r = rows["control: action cost", "Pearson r"]
    assert r == pytest.approx(stats.pearsonr(real, -effort)[0]) and r > rows["all", "Pearson r"]
    assert action_cost(np.array([[1.0, 3.0]])) == [-2.0]


def test_regret_of_any_policy_is_what_choosing_blindly_costs():
    real = np.array([0.0, 2.0, 4.0, 10.0])
    assert found(scores(real, real))["control: any policy", "regret@1"] == pytest.approx(1 - 0.4)


def test_the_dream_trained_can_be_left_out():
    """Where only they are ranked right, nothing is left of the correlation without them."""
    rng = np.random.default_rng(4)
    real, dreamed = rng.uniform(0, 10, (2, 24))
    real[:6] = dreamed[:6] = 100.0 + np.arange(6)
    rows = found(scores(real, dreamed), ["dream"] * 6 + ["ppo"] * 18)
    assert rows["all", "Pearson r"] > 0.95
    assert rows["without the dream-trained", "Pearson r"] == pytest.approx(stats.pearsonr(real[6:], dreamed[6:])[0])
