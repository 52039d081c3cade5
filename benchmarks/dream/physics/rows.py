"""From the scores of every frame to rows with 95 % bootstrap intervals over films.

A film is one scene with its parameters; its cameras, frames and sampling seeds share them, so they are averaged first,
and what is drawn again is films.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from procosm.agents.judge.intervals import interval
from procosm.agents.judge.stats import paired_difference
from procosm.benchmarks.dream.physics.dreams import ARMS, MEAN, SAMPLED, UNITS

HORIZONS = (1, 2, 4, 8, 16, 24, 33)
ALL = "all scenarios"
PAPER = {
    "9 frames": {"psnr_db": 21.06, "ssim": 0.69, "iou": 0.592},
    "1 frame": {"psnr_db": 17.34, "ssim": 0.54, "iou": 0.332},
}
"""Cosmos-Predict1 7B (arXiv 2501.03575, table 20): other scenes, larger pictures, SAMURAI's masks; IoU over objects."""

Scores = Mapping[str, np.ndarray]
"""Of one scenario: (n, v, r, t) films, cameras, sampling seeds and frames, by ``method/metric``."""


def rows(found: Mapping[str, Scores], seed: int) -> list[dict[str, Any]]:
    """Rows of ``metric, task, method, value, unit, low, high, n``: each scenario, all together, then by frame."""
    made = []
    for task, scores in [*found.items(), (ALL, together(found))]:
        for key, values in scores.items():
            method, metric = key.split("/")
            made.append(_row(task, method, metric, per_film(values), seed))
        made += _differences(task, scores, seed)
    for key, values in together(found).items():
        method, metric = key.split("/")
        for frame in (frame for frame in HORIZONS if frame <= values.shape[-1]):
            one = per_film(values[..., frame - 1 : frame])
            made.append(_row(ALL, method, metric, one, seed) | {"frame": frame})
    return made


def per_film(values: np.ndarray) -> np.ndarray:
    """(n, v, r, t) to (n,), the mean of what there is; a film without any is left out."""
    flat = values.reshape(len(values), -1)
    there = np.isfinite(flat)
    mean = np.where(there, flat, 0.0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    return mean[there.any(axis=1)]


def together(found: Mapping[str, Scores]) -> dict[str, np.ndarray]:
    """The films of all scenarios as if they were one."""
    first = next(iter(found.values()))
    return {key: np.concatenate([scores[key] for scores in found.values()]) for key in first}


def _row(task: str, method: str, metric: str, values: np.ndarray, seed: int) -> dict[str, Any]:
    what = {"metric": metric, "task": task, "method": method, "unit": UNITS[metric], "seed": seed}
    return what | interval(_mean, values, seed=seed).as_dict()


def _differences(task: str, scores: Scores, seed: int) -> Iterator[dict[str, Any]]:
    """Nine frames less one, film by film."""
    more, fewer = ARMS
    for sampler in (MEAN, SAMPLED):
        for metric, unit in UNITS.items():
            pair = [per_film(scores[f"{arm}, {sampler}/{metric}"]) for arm in (more, fewer)]
            each = paired_difference(pair[0], pair[1], seed)
            yield {
                "metric": metric, "task": task, "method": f"{more} less {fewer}, {sampler}", "unit": unit, "seed": seed,
                "value": each.mean, "low": each.low, "high": each.high, "n": each.n,
            }  # fmt: skip


def reading(made: list[dict[str, Any]]) -> str:
    """The result in two sentences."""
    value = {(row["metric"], row["method"]): row for row in made if row["task"] == ALL and "frame" not in row}
    iou = {arm: value["iou", f"{arm}, {MEAN}"]["value"] for arm in ARMS}
    gain = value["iou", f"9 frames less 1 frame, {MEAN}"]
    verdict = "more frames help" if gain["low"] > 0 else "more frames do not help for certain"
    return (
        f"Objects overlap their true places by {iou['9 frames']:.2f} from nine frames and {iou['1 frame']:.2f} from "
        f"one, where standing still gives {value['iou', 'copy last frame']['value']:.2f} and the tokenizer allows "
        f"{value['iou', 'tokenizer']['value']:.2f}. Film by film {verdict}: {gain['value']:+.2f} "
        f"[{gain['low']:.2f}, {gain['high']:.2f}]."
    )


def _mean(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=-1)
