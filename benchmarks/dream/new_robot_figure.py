"""The picture of `new_robot`: error and return over real steps, from scratch and post-trained."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.ticker import EngFormatter, FixedLocator, NullFormatter, NullLocator

from procosm.benchmarks.dream.new_robot_worth import FULL, LOW_RANK, SCRATCH

LOOKS = {
    SCRATCH: ("#555555", "o"),
    FULL: ("#d55e00", "s"),
    LOW_RANK: ("#0072b2", "D"),
    "control: actions shuffled in pre-training": ("#e69f00", "v"),
}
"""Colour and mark of each arm."""
PANELS = {
    "state_nrmse after 4 steps": "error of the state after 4 steps, deviations",
    "pixel_mse after 4 steps": "mean square error of pixels after 4 steps",
    "return": "return in MuJoCo",
}
"""What is shown, and what it is called."""
APART = 1.05
"""Arms with the same real steps are drawn this factor apart."""


def draw(rows: Sequence[dict[str, Any]], path: Path) -> Path:
    """A row of panels for each robot: means over seeds as lines, each seed as a faint mark."""
    robots = list(dict.fromkeys(row["task"] for row in rows))
    size = (4.2 * len(PANELS), 3.4 * len(robots) + 0.6)
    figure, axes = plt.subplots(len(robots), len(PANELS), figsize=size, squeeze=False)
    for robot, line in zip(robots, axes, strict=True):
        for axis, (what, title) in zip(line, PANELS.items(), strict=True):
            axis.set(xscale="log", xlabel="real steps", ylabel=title, title=robot)
            _panel(axis, [row for row in rows if row["task"] == robot], what)
            axis.xaxis.label.set_fontsize(9)
            axis.yaxis.label.set_fontsize(9)
    figure.legend(
        *axes[0, -1].get_legend_handles_labels(), loc="lower center", ncols=len(LOOKS), frameon=False, fontsize=9
    )
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return path


def _panel(axis: plt.Axes, rows: Sequence[dict[str, Any]], what: str) -> None:
    means = [row for row in rows if row["metric"] == "mean over seeds" and row["of"] == what]
    steps = sorted({row["real_steps"] for row in means})
    for number, (arm, (colour, mark)) in enumerate(LOOKS.items()):
        points = sorted((row for row in means if row["arm"] == arm), key=lambda row: row["real_steps"])
        if not points:
            continue
        shift = APART ** (number - 1)
        axis.plot(
            [row["real_steps"] * shift for row in points], [row["value"] for row in points],
            color=colour, marker=mark, ms=6, lw=1.3, label=arm,
        )  # fmt: skip
        metric, _, horizon = what.removesuffix(" steps").partition(" after ")
        own = [row for row in rows if row.get("arm") == arm and row["metric"] == metric and "seed" in row]
        own = [row for row in own if not horizon or (row["horizon"], row["method"]) == (int(horizon), "dream")]
        x, y = [row["real_steps"] * shift for row in own], [row["value"] for row in own]
        axis.scatter(x, y, s=12, color=colour, marker=mark, alpha=0.35, lw=0)
    idle = [row["value"] for row in rows if row.get("arm") == "doing nothing"] if what == "return" else []
    if idle:
        axis.axhline(idle[0], color="#999999", lw=1, ls="--")
        axis.annotate("doing nothing", (0.98, idle[0]), xycoords=("axes fraction", "data"), ha="right", fontsize=8)
    axis.xaxis.set_major_locator(FixedLocator(steps))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(EngFormatter(sep=""))
    axis.xaxis.set_minor_formatter(NullFormatter())
