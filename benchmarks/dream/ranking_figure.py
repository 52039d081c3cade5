"""The picture of a ranking: each policy's return in the dream over its return in MuJoCo."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from procosm.agents.judge.intervals import estimate
from procosm.agents.judge.ranking.agreement import Scores
from procosm.agents.judge.ranking.members import Member

MARKS = {
    "ppo": ("#0072b2", "o"),
    "sac": ("#009e73", "s"),
    "td3": ("#cc79a7", "D"),
    "degraded": ("#e69f00", "v"),
    "control": ("#555555", "x"),
    "dream": ("#d55e00", "*"),
    "regulator": ("#56b4e9", "^"),
    "reaching": ("#66a61e", "^"),
    "linear": ("#8c6bb1", "P"),
    "open-loop": ("#999999", "+"),
    "exploit": ("#b2182b", "X"),
}
RIVALS = {"action cost": "control: action cost", "shuffled within bands": "control: shuffled within bands"}


def scatter(
    members: Sequence[Member], panels: Sequence[Scores], rows: Sequence[dict[str, Any]], path: Path, task: str
) -> Path:
    """A panel for each horizon, titled by the result's rows: policies with their 95 % intervals over episodes, and the
    diagonal on which both worlds agree.
    """
    figure, axes = plt.subplots(1, len(panels), figsize=(4.3 * len(panels), 4.4), squeeze=False)
    for axis, scores in zip(axes[0], panels, strict=True):
        x, y = (np.array([_point(returns) for returns in world]) for world in (scores.real, scores.dreamed))
        for family, (colour, mark) in MARKS.items():
            own = [i for i, member in enumerate(members) if member.family == family]
            if not own:
                continue
            for i in own:
                axis.plot(x[i, 1:], y[i, [0, 0]], color=colour, lw=0.8, alpha=0.5)
                axis.plot(x[i, [0, 0]], y[i, 1:], color=colour, lw=0.8, alpha=0.5)
            axis.scatter(x[own, 0], y[own, 0], c=colour, marker=mark, s=28, label=family, zorder=3)
        ends = [min(x.min(), y.min()), max(x.max(), y.max())]
        axis.plot(ends, ends, color="#999999", lw=0.8, ls="--", zorder=0)
        axis.set(title=_title(scores, rows), xlabel="return in MuJoCo", ylabel="return in the dream")
        axis.title.set_fontsize(9)
    axes[0, 0].legend(fontsize=8, frameon=False)
    figure.suptitle(f"{task}: {len(members)} policies, {panels[0].real.shape[1]} paired episodes each", fontsize=10)
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    plt.close(figure)
    return path


def _point(returns: np.ndarray) -> tuple[float, float, float]:
    found = estimate(returns)
    return found.mean, found.low, found.high


def _title(scores: Scores, rows: Sequence[dict[str, Any]]) -> str:
    """The horizon, r with its interval, MMRV, regret, and r of what knows nothing of the dream, where the result has
    them; it says where the panel cannot tell the dream from that.
    """
    found = {(row.get("panel"), row["metric"]): row for row in rows if row["horizon"] == scores.horizon}
    r = found.get(("all", "Pearson r"))
    told = f"r {r['value']:.3f} [{r['low']:.3f}, {r['high']:.3f}]" if r else "r undefined"
    for metric, name in (("MMRV", "MMRV"), ("regret@1", "regret")):
        told += f", {name} {found['all', metric]['value']:.3f}" if ("all", metric) in found else ""
    rivals = {name: found.get((panel, "Pearson r")) for name, panel in RIVALS.items()}
    said = ", ".join(f"{name} r {row['value']:.3f}" for name, row in rivals.items() if row)
    as_good = [name for name, row in rivals.items() if row and r and row["value"] >= r["low"]]
    verdict = f"this panel cannot tell the dream from: {', '.join(as_good)}" if as_good else "the dream is above"
    return "\n".join([scores.horizon, told, said, verdict])
