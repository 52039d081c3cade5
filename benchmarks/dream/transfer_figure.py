"""The picture of `transfer`: return in MuJoCo over real steps."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

LOOKS = {
    "dream": ("#d55e00", "*", "trained in the dream"),
    "shuffled": ("#e69f00", "v", "in a dream with shuffled actions"),
    "offline_sac": ("#009e73", "s", "the same transitions, SAC offline"),
    "offline_td3_bc": ("#66a61e", "P", "the same transitions, TD3+BC"),
    "cloned": ("#56b4e9", "D", "cloning, all episodes"),
    "cloned_best": ("#0072b2", "d", "cloning, best tenth"),
    "online_ppo": ("#cc79a7", "o", "PPO in MuJoCo, true state"),
    "online_sac": ("#7a4ea3", "o", "SAC in MuJoCo, true state"),
    "untrained": ("#555555", "", "untrained"),
}
"""Colour, mark and name of each arm."""
POSSIBLE = {"InvertedPendulum": (0.0, 1000.0), "Reacher": (-math.inf, 0.0)}
"""Returns that a task can give, by the beginning of its name: a t interval of few seeds reaches beyond, its bar not."""
ANY = (-math.inf, math.inf)
APART = 1.04
"""Arms with the same real steps are drawn this factor apart, so that their intervals can be told from each other."""


def draw(rows: Sequence[dict[str, Any]], path: Path) -> Path | None:
    """Means over seeds of one task with their 95 % intervals: curves for the online learners, marks beside the dotted
    line for the arms that had the run's data, with their number of seeds where it is below that of the others. A single
    arm has nothing to compare: then nothing is drawn.
    """
    means = [row for row in rows if row["metric"] == "return mean"]
    if len({row["arm"] for row in means}) < 2:
        return None
    figure, axis = plt.subplots(figsize=(6.4, 4.8))
    _panel(axis, means, max(row["n"] for row in means))
    axis.margins(y=0.1)
    axis.set(title=means[0]["task"], xlabel="real steps", ylabel="mean return in MuJoCo", xscale="log")
    axis.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_minor_formatter(NullFormatter())
    figure.legend(loc="lower center", ncols=2, borderaxespad=1, frameon=False, fontsize=8)
    figure.tight_layout(rect=(0, 0.21, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=140)
    plt.close(figure)
    return path


def _panel(axis: plt.Axes, means: Sequence[dict[str, Any]], most: int) -> None:
    beside = [arm for arm in LOOKS if not arm.startswith("online") and arm != "untrained"]
    for arm, (colour, mark, label) in LOOKS.items():
        points = sorted((row for row in means if row["arm"] == arm), key=lambda row: row["real_steps"])
        if not points:
            continue
        y = [row["value"] for row in points]
        if arm == "untrained":
            axis.axhline(y[0], color=colour, lw=1, ls="--", label=label)
            continue
        if arm == "dream":
            axis.axvline(points[0]["real_steps"], color=colour, lw=0.8, ls=":")
            axis.plot([points[0]["real_steps"] * f for f in (0.2, 5)], [points[0]["value"]] * 2, alpha=0)  # its decade
        x = [row["real_steps"] * (APART ** beside.index(arm) if arm in beside else 1) for row in points]
        least, greatest = next((r for name, r in POSSIBLE.items() if points[0]["task"].startswith(name)), ANY)
        below = [row["value"] - max(row.get("low", row["value"]), least) for row in points]
        above = [min(row.get("high", row["value"]), greatest) - row["value"] for row in points]
        error = [below, above]
        size, line = (11 if arm == "dream" else 5), ("-" if len(points) > 1 else "none")
        axis.errorbar(x, y, error, color=colour, marker=mark, ms=size, ls=line, lw=1.2, capsize=2, label=label)
        if points[-1]["n"] < most:
            axis.annotate(
                f"n = {points[-1]['n']}", (x[-1], y[-1]), (-8, -2), textcoords="offset points", ha="right", fontsize=7
            )
