"""Intervals of what a panel of policies shows, over the training runs that its policies come from.

Policies saved at several times of one training are alike, and a policy with noise is like the one without: drawn again
as if they were independent, as a bootstrap of policies does, they give intervals that are too short. So whole runs are
left out (delete-a-group jackknife; Efron & Tibshirani 1993, §11), and Student's t of their number is applied where the
statistic is nearly normal: Fisher's z for a correlation, the logit for a share. Statistics that jump, such as which
policy is best, have no jackknife: of them is told where another panel's would lie. What all this covers is simulated in
``tests/agents/judge/test_coverage.py``.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit, logit
from scipy.stats import t as student

from procosm.agents.judge.intervals import LEVEL, RESAMPLES, Interval, Statistic


@dataclass(frozen=True)
class Scale:
    """Where a statistic is nearly normal: how to get there, and back."""

    there: Callable[[np.ndarray], np.ndarray]
    back: Callable[[np.ndarray], np.ndarray]


FISHER, SHARE = Scale(np.arctanh, np.tanh), Scale(logit, expit)
PLAIN = Scale(np.asarray, np.asarray)
PART = 1 / 3
"""Of the runs, in the smaller panels that say how much a statistic that jumps may differ."""


def jackknife(statistic: Statistic, *samples: np.ndarray, runs: Sequence[Hashable], scale: Scale = PLAIN) -> Interval:
    """A statistic of n policies, with its 95 % interval over the training runs that they come from.

    Args:
        statistic: of one array or several, (…, n) to (…).
        samples: (n,) each; entry i of all of them is one policy.
        runs: (n,), which training each policy comes from.
        scale: where the statistic is nearly normal.

    Raises:
        ValueError: fewer than three runs, or leaving one out leaves a statistic without a finite value there.
    """
    rows, run = _numbered(samples, runs)
    value = float(statistic(*(row[None] for row in rows))[0])
    without = np.array([statistic(*(row[None, run != left] for row in rows))[0] for left in range(run.max() + 1)])
    with np.errstate(divide="ignore", invalid="ignore"):
        middle, there = float(scale.there(np.array(value))), scale.there(without)
    if not np.isfinite(middle) or not np.isfinite(there).all():
        raise ValueError(f"the statistic is {value}, and {without.min()} to {without.max()} without one of the runs")
    error = np.sqrt((len(there) - 1) * there.var())
    half = float(student.ppf((1 + LEVEL) / 2, len(there) - 1)) * error
    low, high = scale.back(np.array([middle - half, middle + half]))
    return Interval(value, float(low), float(high), len(run))


def another_panel(statistic: Statistic, *samples: np.ndarray, runs: Sequence[Hashable], seed: int = 0) -> Interval:
    """The same for statistics that jump: where that of another panel like this one lies, 95 times in a hundred.

    Percentiles over panels of a third of the runs, drawn without replacement (Politis & Romano 1994), widened to hold
    the value itself. Of as many runs drawn with replacement, as a bootstrap has them, the regret of another panel lies
    within only 73 to 93 times in a hundred: the best policy is drawn again too often.

    Raises:
        ValueError: fewer than three runs.
    """
    rows, run = _numbered(samples, runs)
    own = [np.flatnonzero(run == each) for each in range(run.max() + 1)]
    fewer, rng = max(2, round(len(own) * PART)), np.random.default_rng(seed)
    panels = (np.concatenate([own[each] for each in rng.permutation(len(own))[:fewer]]) for _ in range(RESAMPLES))
    again = np.array([float(statistic(*(row[panel] for row in rows))) for panel in panels])
    value, (low, high) = float(statistic(*rows)), np.nanpercentile(again, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return Interval(value, min(float(low), value), max(float(high), value), len(run))


def _numbered(samples: Sequence[np.ndarray], runs: Sequence[Hashable]) -> tuple[list[np.ndarray], np.ndarray]:
    """The samples as float64, and (n,) the number of each policy's run."""
    rows = [np.asarray(each, dtype=np.float64) for each in samples]
    names = {run: number for number, run in enumerate(dict.fromkeys(runs))}
    run = np.array([names[each] for each in runs])
    if len(names) < 3 or any(row.shape != run.shape for row in rows):
        raise ValueError(f"{len(rows[0])} policies of {len(names)} runs: an interval over runs needs three or more")
    return rows, run
