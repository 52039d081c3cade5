"""The figure: each scenario's first film as truth and as dreamed, and every metric over the frames."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np

from procosm.benchmarks.dream.physics.dreams import SHOWN
from procosm.benchmarks.dream.physics.rows import Scores, per_film, together

COLUMNS = (1, 6, 11, 16, 21, 27, 33)
COLOURS = {
    "9 frames, mean": "#1f5fbf",
    "9 frames, sampled": "#85b0ec",
    "1 frame, mean": "#8a4fbf",
    "1 frame, sampled": "#c9a6e8",
    "copy last frame": "#b5541c",
    "tokenizer": "#2b7d4f",
    "real frames": "#1c1d20",
}
PANELS = {"psnr_db": "PSNR, dB", "ssim": "SSIM", "iou": "object IoU"}
GAP = 2


def physics_figure(strips: Mapping[str, Mapping[str, np.ndarray]], found: Mapping[str, Scores], path: Path) -> Path:
    """Draw it.

    Args:
        strips: of each scenario the frames (t, H, W, 3) of the truth and of both arms. found: the scores of each.
    """
    figure = plt.figure(figsize=(11, 13))
    grid = figure.add_gridspec(5, 6, height_ratios=[1, 1, 1, 1, 1.25], hspace=0.28, wspace=0.9)
    for place, (name, strip) in enumerate(strips.items()):
        row, side = divmod(place, 2)
        _film(figure.add_subplot(grid[row, 3 * side : 3 * side + 3]), name, strip)
    scores = together(found)
    for place, (metric, title) in enumerate(PANELS.items()):
        axis = figure.add_subplot(grid[4, 2 * place : 2 * place + 2])
        for method, colour in COLOURS.items():
            if f"{method}/{metric}" in scores:
                _curve(axis, scores[f"{method}/{metric}"], method, colour)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("frames into the dream", fontsize=8)
        axis.tick_params(labelsize=7)
        axis.grid(alpha=0.25)
    handles, labels = figure.axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="lower center", ncols=len(labels), fontsize=9, frameon=False)
    figure.subplots_adjust(left=0.05, right=0.98, top=0.97, bottom=0.07)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    plt.close(figure)
    return path


def _film(axis: plt.Axes, name: str, strip: Mapping[str, np.ndarray]) -> None:
    size = strip["truth"].shape[1]
    columns = [column for column in COLUMNS if column <= len(strip["truth"])]
    step = size + GAP
    picture = np.full((len(SHOWN) * step - GAP, len(columns) * step - GAP, 3), 255, np.uint8)
    for row, kind in enumerate(SHOWN):
        for column, frame in enumerate(columns):
            picture[row * step :, column * step :][:size, :size] = strip[kind][frame - 1]
    axis.imshow(picture, interpolation="nearest")
    axis.set_title(name, fontsize=9)
    axis.set_yticks(
        [row * step + size / 2 for row in range(len(SHOWN))], [kind.split(",")[0] for kind in SHOWN], fontsize=7
    )
    axis.set_xticks([i * step + size / 2 for i in range(len(columns))], map(str, columns), fontsize=7)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)


def _curve(axis: plt.Axes, values: np.ndarray, method: str, colour: str) -> None:
    frames = np.arange(1, values.shape[-1] + 1)
    axis.plot(frames, [per_film(values[..., t - 1 : t]).mean() for t in frames], color=colour, label=method, lw=1.4)
