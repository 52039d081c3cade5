"""From paired episodes of a panel to the numbers of a ranking, each with its interval."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.stats import ks_2samp

from procosm.agents.judge.intervals import interval
from procosm.benchmarks.dream.stats import (
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
from procosm.benchmarks.dream.zoo import Member


@dataclass(frozen=True)
class Scores:
    """What p policies earned in e paired episodes.

    Attributes:
        key: ``return`` (whole episodes) or ``return_H`` (the first H steps).
        real, dreamed: (p, e) returns in the task's own units. real_steps, dreamed_steps: (p, e) lengths of episodes.
    """

    key: str
    real: np.ndarray
    dreamed: np.ndarray
    real_steps: np.ndarray
    dreamed_steps: np.ndarray

    @classmethod
    def of(cls, key: str, real: Sequence[Sequence[dict]], dreamed: Sequence[Sequence[dict]]) -> "Scores":
        """Scores from the rows that ``paired.play`` gives, a sequence for each policy."""
        tables = [
            np.array([[row[name] for row in rows] for rows in world], np.float64)
            for name in (key, "steps")
            for world in (real, dreamed)
        ]
        return cls(key, *tables)

    @property
    def horizon(self) -> str:
        """Which part of an episode counts, in words."""
        return "whole episode" if self.key == "return" else f"first {self.key.removeprefix('return_')} steps"


Method = Literal["percentile", "bca"]

FEWEST = 4
"""Different scores that a correlation needs: with fewer, leaving one policy out may leave nothing that varies."""

STATISTICS: dict[str, tuple[Callable[..., np.ndarray], Method]] = {
    "Pearson r": (pearson, "bca"),
    "Spearman rho": (spearman, "bca"),
    "Kendall tau": (kendall, "bca"),
    "MMRV": (mmrv, "percentile"),
    "top-1 agreement": (lambda real, dreamed: top_k(real, dreamed, 1), "percentile"),
    "top-3 agreement": (lambda real, dreamed: top_k(real, dreamed, 3), "percentile"),
    "regret@1": (regret, "percentile"),
    "signed bias": (bias, "percentile"),
}


def agreement_rows(members: Sequence[Member], scores: Scores) -> list[dict[str, Any]]:
    """Rows of a result: agreement over the panel and over its unseen part, and what each dream-trained policy gains."""
    real, dreamed = normalised(scores.real.mean(axis=1), scores.dreamed.mean(axis=1))
    place = {"horizon": scores.horizon, "unit": "1"}
    rows = []
    unseen = np.array([not member.seen for member in members])
    for panel, there in (("all", np.ones(len(members), bool)), ("never in the data", unseen)):
        different = min(len(np.unique(world[there])) for world in (real, dreamed))
        for name, (statistic, method) in STATISTICS.items():
            if method == "bca" and different < FEWEST:
                continue
            found = interval(statistic, real[there], dreamed[there], method=method).as_dict()
            rows.append({"metric": name, "panel": panel, **place, **found})
    if scores.key == "return":
        apart = [ks_2samp(*lengths).statistic for lengths in zip(scores.real_steps, scores.dreamed_steps, strict=True)]
        found = interval(lambda x: x.mean(axis=-1), np.array(apart)).as_dict()
        rows.append({"metric": "Kolmogorov-Smirnov distance of episode lengths", "panel": "all", **place, **found})
    return rows + gaps(members, scores)


def gaps(members: Sequence[Member], scores: Scores) -> list[dict[str, Any]]:
    """Exploitability: what each dream-trained policy earns more in the dream than in MuJoCo, over the panel's range."""
    size = float(np.ptp(scores.real.mean(axis=1)))
    rows = []
    for member, real, dreamed in zip(members, scores.real, scores.dreamed, strict=True):
        if member.family == "dream":
            found = paired_difference(dreamed / size, real / size)
            rows.append(
                {"metric": "exploitability gap", "policy": member.name, "horizon": scores.horizon, "unit": "1"}
                | {"value": found.mean, "low": found.low, "high": found.high, "n": found.n}
            )
    return rows
