"""The figure of a fidelity result: a column for each metric, a row for each behaviour, curves over the horizon."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {
    "dream": "#1f5fbf",
    "shuffled actions": "#6d7078",
    "linear": "#8a4fbf",
    "copy last frame": "#b5541c",
    "tokenizer": "#2b7d4f",
    "MuJoCo, start 10 % off": "#1c1d20",
    "MuJoCo, start as read": "#9a9da5",
}
PANELS = {
    "psnr_db": "PSNR, dB",
    "ssim": "SSIM",
    "state_nrmse": "error of the true state, sd",
    "frechet_video": "Fréchet video distance",
    "false_end": "held for ended, share",
}


def horizon_figure(rows: Sequence[Mapping[str, Any]], path: Path) -> Path:
    """Draw the rows of ``fidelity.json``; bands are 95 % intervals. A metric that tells nothing apart has no panel."""
    behaviours = list(dict.fromkeys(row["behaviour"] for row in rows))
    told = {
        metric: title
        for metric, title in PANELS.items()
        if any(_tells([r for r in rows if (r["behaviour"], r["metric"]) == (each, metric)]) for each in behaviours)
    }
    figure, axes = plt.subplots(
        len(behaviours), len(told), figsize=(3.1 * len(told), 2.5 * len(behaviours) + 0.5), squeeze=False
    )
    for axis_row, behaviour in zip(axes, behaviours, strict=True):
        for axis, (metric, title) in zip(axis_row, told.items(), strict=True):
            chosen = [row for row in rows if (row["behaviour"], row["metric"]) == (behaviour, metric)]
            axis.set_title(title, fontsize=9)
            if _tells(chosen):
                _panel(axis, chosen)
            else:
                axis.set_axis_off()
                axis.text(0.5, 0.5, "no curve: one horizon,\nor all alike", ha="center", va="center", fontsize=8)
        axis_row[0].set_ylabel(behaviour, fontsize=9)
    for axis in axes[-1]:
        axis.set_xlabel("steps into the dream", fontsize=8)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize=9, frameon=False)
    figure.tight_layout(rect=(0, 0.22 / figure.get_figheight(), 1, 1))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)
    return path


def _tells(rows: Sequence[Mapping[str, Any]]) -> bool:
    """Whether there is a curve to draw, and one that differs from another or along the horizon."""
    return len({row["horizon"] for row in rows}) > 1 and len({row["value"] for row in rows}) > 1


def _panel(axis: plt.Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for method, colour in COLOURS.items():
        line = [row for row in rows if row["method"] == method]
        steps = [row["horizon"] for row in line]
        axis.plot(steps, [row["value"] for row in line], color=colour, label=method, marker="o", markersize=2.5, lw=1.4)
        axis.fill_between(steps, [row["low"] for row in line], [row["high"] for row in line], color=colour, alpha=0.15)
    shown = sorted({row["horizon"] for row in rows})
    axis.set_xscale("log", base=2)
    axis.set_xticks(shown, [str(step) for step in shown])
    axis.minorticks_off()
    axis.tick_params(labelsize=7)
    axis.grid(alpha=0.25)
    # MuJoCo from another start may fall without bound; the picture is about the models.
    highest = max((row["high"] for row in rows if not row["method"].startswith("MuJoCo")), default=1.0)
    axis.set_ylim(0, 1.08 * highest or 1.0)
