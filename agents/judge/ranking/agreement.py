"""From paired episodes of a panel to the numbers of a ranking, each with its interval."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.stats import ks_2samp

from procosm.agents.judge.by_run import FISHER, PLAIN, SHARE, Scale, another_panel, jackknife
from procosm.agents.judge.ranking.controls import action_cost, bands, shuffled
from procosm.agents.judge.ranking.members import Member
from procosm.agents.judge.stats import (
    bias,
    kendall,
    mmrv,
    normalised,
    paired_difference,
    pearson,
    regret,
    spearman,
    top_k,
)


@dataclass(frozen=True)
class Scores:
    """What p policies earned in e paired episodes.

    Attributes:
        key: ``return`` (whole episodes) or ``return_H`` (the first H steps).
        real, dreamed: (p, e) returns in the task's own units. real_steps, dreamed_steps: (p, e) lengths of episodes.
        effort: (p, e) sums of squared actions in the real episodes; None where they were not counted.
    """

    key: str
    real: np.ndarray
    dreamed: np.ndarray
    real_steps: np.ndarray
    dreamed_steps: np.ndarray
    effort: np.ndarray | None = None

    @classmethod
    def of(cls, key: str, real: Sequence[Sequence[dict]], dreamed: Sequence[Sequence[dict]]) -> "Scores":
        """Scores from the rows that ``paired.play`` gives, a sequence for each policy."""
        real_score, dreamed_score, real_steps, dreamed_steps = (
            np.array([[row[name] for row in rows] for rows in world], np.float64)
            for name in (key, "steps")
            for world in (real, dreamed)
        )
        counted = all("effort" in row for rows in real for row in rows)
        effort = np.array([[row["effort"] for row in rows] for rows in real]) if counted else None
        return cls(key, real_score, dreamed_score, real_steps, dreamed_steps, effort)

    @property
    def horizon(self) -> str:
        """Which part of an episode counts, in words."""
        return "whole episode" if self.key == "return" else f"first {self.key.removeprefix('return_')} steps"


STATISTICS: dict[str, tuple[Callable[..., np.ndarray], Scale | None]] = {
    "Pearson r": (pearson, FISHER),
    "Spearman rho": (spearman, FISHER),
    "Kendall tau": (kendall, FISHER),
    "MMRV": (mmrv, SHARE),
    "top-1 agreement": (lambda real, dreamed: top_k(real, dreamed, 1), None),
    "top-3 agreement": (lambda real, dreamed: top_k(real, dreamed, 3), None),
    "regret@1": (regret, None),
    "signed bias": (bias, PLAIN),
}
"""Each with the scale on which it is nearly normal; None where it jumps."""
RANKS = ("Pearson r", "Spearman rho", "MMRV", "regret@1")
"""What is told of predictors that are no dream."""


def agreement_rows(members: Sequence[Member], scores: Scores) -> list[dict[str, Any]]:
    """Rows of a result: agreement over the panel and its parts, that of predictors which know nothing of the dream, and
    what each dream-trained policy gains.
    """
    real, dreamed = normalised(scores.real.mean(axis=1), scores.dreamed.mean(axis=1))
    runs = np.array([member.training for member in members])
    parts = {
        "all": np.ones(len(members), bool),
        "never in the data": np.array([not member.seen for member in members]),
        "without the dream-trained": np.array([member.family != "dream" for member in members]),
    }
    rows = [row for name, there in parts.items() for row in _of_part(name, real[there], dreamed[there], runs[there])]
    rows += control_rows(scores, real, dreamed, runs)
    if scores.key == "return":
        apart = [ks_2samp(*lengths).statistic for lengths in zip(scores.real_steps, scores.dreamed_steps, strict=True)]
        found = jackknife(lambda x: x.mean(axis=-1), np.array(apart), runs=runs.tolist()).as_dict()
        rows.append({"metric": "Kolmogorov-Smirnov distance of episode lengths", "panel": "all", **found})
    return [{"horizon": scores.horizon, "unit": "1", **row} for row in rows] + gaps(members, scores)


def _of_part(
    panel: str, real: np.ndarray, dreamed: np.ndarray, runs: np.ndarray, names: Sequence[str] = tuple(STATISTICS)
) -> Iterator[dict[str, Any]]:
    """A row for each statistic that has an interval on these policies."""
    for name in names:
        statistic, scale = STATISTICS[name]
        try:
            if scale is None:
                found = another_panel(statistic, real, dreamed, runs=runs.tolist())
            else:
                found = jackknife(statistic, real, dreamed, runs=runs.tolist(), scale=scale)
        except ValueError:
            continue  # too few runs, or scores that do not differ: there is nothing to tell
        yield {"metric": name, "panel": panel, **found.as_dict(), "runs": len(set(runs.tolist()))}


def control_rows(scores: Scores, real: np.ndarray, dreamed: np.ndarray, runs: np.ndarray) -> Iterator[dict[str, Any]]:
    """The same of what a ranking must beat, and the correlation within each band of returns."""
    if scores.effort is not None:
        yield from _of_part("control: action cost", real, action_cost(scores.effort), runs, RANKS)
    yield {"metric": "regret@1", "panel": "control: any policy", "value": float((1 - real).mean()), "n": len(real)}
    band = bands(real)
    dealt = list(shuffled(dreamed, band))
    for name in RANKS:
        again = np.array([STATISTICS[name][0](real, each) for each in dealt])
        low, high = np.percentile(again, [2.5, 97.5])
        found = {"value": float(again.mean()), "low": float(low), "high": float(high), "n": len(real)}
        yield {"metric": name, "panel": "control: shuffled within bands", **found}
    for each in np.unique(band):
        there = band == each
        yield from _of_part(f"band {each + 1} of {band.max() + 1}", real[there], dreamed[there], runs[there], RANKS[:2])


def gaps(members: Sequence[Member], scores: Scores) -> list[dict[str, Any]]:
    """Exploitability: what each policy that was trained or searched for in a dream earns more there than in MuJoCo.

    In shares of the range of the panel's true scores.
    """
    size = float(np.ptp(scores.real.mean(axis=1)))
    rows = []
    for member, real, dreamed in zip(members, scores.real, scores.dreamed, strict=True):
        if member.family in ("dream", "exploit"):
            found = paired_difference(dreamed / size, real / size)
            rows.append(
                {"metric": "exploitability gap", "policy": member.name, "family": member.family}
                | {"horizon": scores.horizon, "unit": "1", "steps": member.steps}
                | {"value": found.mean, "low": found.low, "high": found.high, "n": found.n}
            )
    return rows
