"""Sections of a run's page for what benchmarks have measured of it: one for each result file, none for what is missing.

A file has the form of every result, ``{…, rows: [{metric, task, value, unit, low, high, n, …}]}``. Fidelity and ranking
have charts of their own; any other is shown as its sentence (``details.reading``), curves where its rows have a method
and a horizon, its figure (NAME.png beside it or in figures/) and its rows.
"""

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from procosm.agents.judge.intervals import estimate
from procosm.agents.report.charts import Cloud, Line, line_chart, scatter_chart
from procosm.agents.report.result_files import episodes_file, read_episodes, read_picture, read_result, task_of
from procosm.agents.report.sections import figure, number, table

Rows = Sequence[Mapping[str, Any]]

ORDER = ("fidelity", "geometry", "physics", "ranking", "trust", "transfer")
TITLES = {
    "geometry": "Does the picture obey the camera?",
    "physics": "Does it obey physics?",
    "trust": "Does it know when it is lost?",
    "transfer": "What is the dream worth?",
}
MUJOCO = "MuJoCo, start 10 % off"
TONES = {
    "dream": 1,
    "copy last frame": 2,
    "real frames": 2,
    "shuffled actions": 3,
    "tokenizer": 4,
    "linear": 5,
    MUJOCO: 6,
}
CURVES = {
    "psnr_db": ("Picture", "PSNR in dB; higher is better"),
    "ssim": ("Structure of the picture", "SSIM; higher is better"),
    "state_nrmse": ("True state, read by the probe", "error in standard deviations; lower is better"),
    "frechet_video": ("Eight frames as a film", "Fréchet distance of clips; lower is better"),
    "reward_error": ("Reward", "mean absolute error; lower is better"),
    "false_end": ("Ends that are not there", "share of windows already held for ended; lower is better"),
    "landmark_error": ("Landmarks off their place", "pixels; lower is better"),
    "sampson_time": ("Landmarks off their epipolar lines", "Sampson error over time, pixels; lower is better"),
    "sampson_views": ("Views that disagree", "Sampson error between two cameras, pixels; lower is better"),
    "lost": ("Landmarks lost", "share that cannot be found; lower is better"),
}
"""What the curves of a metric are called, and how they are read."""


def measured_sections(run: Path, task: str, results: Path | None = None) -> list[str]:
    """A section for each result, in the order of ``ORDER``, then of names.

    Args:
        run: whose ``RUN/benchmarks/*.json`` are shown. task: the run's.
        results: folder of results of several tasks (``fidelity_reacher.json``); those of ``task`` whose first word is
            in ``ORDER``, and which ``run`` has not of its own, are shown too.

    Raises:
        CheckpointError: a result is damaged.
    """
    found = {path.stem: path for path in sorted((run / "benchmarks").glob("*.json"))}
    for path in sorted(results.glob("*.json")) if results else ():
        question = path.stem.split("_")[0]
        if question in ORDER and question not in found and task_of(path) == task:
            found[question] = path
    names = [name for name in ORDER if name in found] + [name for name in found if name not in ORDER]
    own: dict[str, Callable[[Mapping[str, Any], Path], str]]
    own = {"fidelity": fidelity_section, "ranking": ranking_section}
    return [own.get(name, plain_section)(read_result(name, found[name]), found[name]) for name in names]


def fidelity_section(result: Mapping[str, Any], path: Path) -> str:
    """Curves over the horizon for each behaviour, and where the dream stops being worth following."""
    rows = [row for row in result["rows"] if "method" in row]
    parts = [
        "<h2>How far can it be followed?</h2>",
        "<p>Real episodes played to judge by, never trained on, continued ",
    ]
    parts.append("in the dream under the recorded actions. Curves that the dream must beat stand beside it.</p>")
    for behaviour in dict.fromkeys(row["behaviour"] for row in rows):
        chosen = [row for row in rows if row["behaviour"] == behaviour]
        charts = [_curves(chosen, metric) for metric in CURVES]
        most, fewest = max(row["n"] for row in chosen), min(row["n"] for row in chosen if row["metric"] == "psnr_db")
        parts += [
            f"<h3>Actions: {escape(behaviour)}</h3><p>{escape(_followed(chosen))}</p>",
            f'<div class="two">{"".join(charts)}</div>',
            f'<p class="soft">{most} windows from as many episodes, {fewest} at the longest horizon shown; bands are '
            "95 % bootstrap intervals.</p>",
        ]
    steps = sum(row["value"] for row in result["rows"] if row["metric"] == "judging steps")
    network = next((f" Features of clips: {row['network']}." for row in rows if "network" in row), "")
    parts.append(f'<p class="soft">Judging took {number(steps)} steps in MuJoCo.{escape(network)}</p>')
    return "".join(parts)


def _followed(rows: Rows) -> str:
    """For how long the dream beats copying, by the state and by the picture, in words."""
    said = []
    for metric, sign, name in (("state_nrmse", 1, "the true state"), ("psnr_db", -1, "the picture")):
        value = {(row["method"], row["horizon"]): sign * row["value"] for row in rows if row["metric"] == metric}
        horizons = sorted(horizon for method, horizon in value if method == "dream")
        lost = next((h for h in horizons if value["dream", h] >= value["copy last frame", h]), None)
        until = f"up to step {horizons[-1]}, the last compared" if lost is None else f"until step {lost}"
        said.append(f"by {name} the dream is nearer the truth than its own first frame {until}")
    text = "; ".join(said) + "."
    value = {(row["method"], row["horizon"]): row["value"] for row in rows if row["metric"] == "state_nrmse"}
    reached = sorted(horizon for method, horizon in value if method == MUJOCO)
    lost = next((h for h in reached if value[MUJOCO, h] >= value["copy last frame", h]), None)
    if lost is not None:
        text += f" MuJoCo itself, begun 10 % of a deviation off, is farther from the truth than that at step {lost}."
    return text[:1].upper() + text[1:]


def _curves(rows: Rows, metric: str) -> str:
    """A chart of one metric; nothing where it was not measured."""
    chosen = [row for row in rows if row["metric"] == metric]
    lines = [
        Line(name, [(r["horizon"], r["value"], r["low"], r["high"]) for r in chosen if r["method"] == name], tone)
        for name, tone in TONES.items()
    ]
    # MuJoCo from another start may fall without bound; the picture is about the models.
    highest = max((r["high"] for r in chosen if r["method"] != MUJOCO), default=0.0)
    lines = [replace(line, points=[p for p in line.points if p[1] <= highest]) for line in lines]
    there = [line for line in lines if line.points]
    if not there:
        return ""
    title, caption = CURVES.get(metric, (metric.replace("_", " "), chosen[0]["unit"]))
    return figure(title, line_chart(there, "steps into the dream", f"{title} by horizon", doubling=True), caption)


def ranking_section(result: Mapping[str, Any], path: Path) -> str:
    """Return in the dream against return in MuJoCo, a point for each policy, with how far the two agree.

    The points are means of the episodes in the CSV beside ``path``: columns policy, truth_return and dream_return;
    ``details.panel`` gives each policy's family.
    """
    rows = [row for row in result["rows"] if (row.get("panel"), row.get("horizon")) == ("all", "whole episode")]
    value = {row["metric"]: row for row in rows}
    families = {member["policy"]: member["family"] for member in result["details"]["panel"]}
    points = _means(read_episodes(episodes_file(path), set(families)))
    clouds = []
    for i, family in enumerate(dict.fromkeys(families.values())):
        own = [policy for policy in points if families[policy] == family]
        labels = [f"{name}: {points[name][0]:.2f} in MuJoCo, {points[name][1]:.2f} in the dream" for name in own]
        clouds.append(Cloud(family, [points[name] for name in own], labels, i % 5 + 1))
    known = {"Pearson r": "r", "Spearman rho": "ρ", "Kendall tau": "τ", "MMRV": "MMRV", "regret@1": "regret@1"}
    said = ", ".join(f"{name} {_range(value[metric])}" for metric, name in known.items() if metric in value)
    chart = scatter_chart(clouds, "mean return in MuJoCo", "mean return in the dream", "dream against MuJoCo")
    return (
        f"<h2>Would it choose the right policy?</h2><p>{len(points)} policies, each judged in MuJoCo and in the dream "
        f"from the same first frames; over whole episodes {escape(said)}.</p>"
        + figure("A point for each policy", chart, "means with 95 % intervals; on the dashed line both worlds agree")
        + table("all numbers", *_rows(result["rows"]))
    )


def _means(episodes: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, tuple[float, ...]]:
    """Each policy's mean return in MuJoCo and in the dream, the latter with its 95 % interval."""
    found = {policy: [estimate(returns) for returns in worlds] for policy, worlds in episodes.items()}
    return {policy: (real.mean, own.mean, own.low, own.high) for policy, (real, own) in found.items()}


def plain_section(result: Mapping[str, Any], path: Path) -> str:
    """Any result: its sentence, its curves and figure, its rows."""
    reading = result.get("details", {}).get("reading", "")
    name = path.stem.split("_")[0]
    title = TITLES.get(name, path.stem.replace("_", " ").capitalize())
    pictures = [path.with_suffix(".png"), path.parent / "figures" / f"{path.stem}.png"]
    curved = [row for row in result["rows"] if {"method", "low"} <= set(row) and isinstance(row.get("horizon"), int)]
    charts = [_curves(curved, metric) for metric in dict.fromkeys(row["metric"] for row in curved)]
    shown = f'<div class="two">{"".join(charts)}</div>' if charts else ""
    for picture in (each for each in pictures if each.exists()):
        content = base64.b64encode(read_picture(picture)).decode()
        shown += f'<figure><img alt="{escape(title, quote=True)}" src="data:image/png;base64,{content}"></figure>'
    said = f"<p>{escape(reading)}</p>" if reading else ""
    return f"<h2>{escape(title)}</h2>{said}{shown}{table('all numbers', *_rows(result['rows']))}"


def _rows(rows: Rows) -> tuple[list[str], list[list[str]]]:
    """Head and body of a table of results, with the words that tell rows of one metric apart."""
    dull = {"metric", "task", "value", "unit", "low", "high", "n", "seed", "network"}
    words = list(dict.fromkeys(key for row in rows for key in row if key not in dull))
    head = ["metric", *words, "value", "95 %", "n", "unit"]
    body = []
    for row in rows:
        around = f"{_number(row['low'])} to {_number(row['high'])}" if "low" in row else ""
        told = [row["metric"], *(str(row.get(word, "")) for word in words)]
        body.append([*told, _number(row["value"]), around, str(row.get("n", "")), row["unit"]])
    return head, body


def _range(row: Mapping[str, Any]) -> str:
    return f"{_number(row['value'])} ({_number(row['low'])} to {_number(row['high'])})"


def _number(value: float) -> str:
    return number(value, 3) if abs(value) < 10 else number(value)
