"""Writes the tables of README.md and docs/results.md from ``results/*.json``: ``make results``.

Each table stands between two comments that name it. A row is one world model; what was not measured says so.
"""

import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from procosm.benchmarks.ladder import ladder_table
from procosm.benchmarks.record import RESULTS
from procosm.world_model.files import read_json, write_bytes

ROOT = RESULTS.parent.parent
TASKS = ("InvertedPendulum", "Reacher", "HalfCheetah")
NOT_MEASURED = "not measured"


def read(name: str) -> dict[str, Any] | None:
    """One result file, or None where it was never measured."""
    path = RESULTS / f"{name}.json"
    return read_json(path) if path.exists() else None


def returns_table() -> list[str]:
    """A line for each world model and the policy trained in it; all seeds, none left out."""
    head = (
        "task",
        "seed",
        "preset",
        "real steps",
        "return in MuJoCo [95 %], episodes",
        "doing nothing",
        "minutes",
        "commit",
    )
    lines = _header(head)
    for task in TASKS:
        result = read(f"pipeline_{task.lower()}")
        if result is None:
            lines.append(f"| {task} | | | | {NOT_MEASURED} | | | |")
            continue
        preset = re.search(r"--preset (\w+)", result["command"])
        for seed in sorted({row["seed"] for row in result["rows"]}):
            found = {row["metric"]: row for row in result["rows"] if row["seed"] == seed}
            trained = found["return of trained in mujoco"]
            commit = trained.get("run_commit", result["commit"]).rstrip("+")
            lines.append(
                f"| {task} | {seed} | {preset[1] if preset else 'small'} | {found['real steps collected']['value']:,} "
                f"| **{trained['value']:.1f}** [{trained['low']:.1f}, {trained['high']:.1f}], {trained['n']} "
                f"| {found['return of zero in mujoco']['value']:.1f} | {found['seconds in all']['value'] / 60:.0f} "
                f"| {commit} |"
            )
    return lines


CONTROLS = {
    "r without the dream-trained": "without the dream-trained",
    "r, scores shuffled within bands": "control: shuffled within bands",
    "r of −Σa² alone": "control: action cost",
}
"""What stands beside a ranking's correlation, by the name of its panel."""


def rankings_table() -> list[str]:
    """How well one world model of each task ranks policies over the longest part of an episode that was ranked."""
    head = ("world model", "returns over", "policies (never in its data)", "Pearson r [95 %]", "MMRV", "regret@1")
    lines = _header((*head, *CONTROLS))
    for task in TASKS:
        result = read(f"ranking_{task.lower()}")
        if result is None:
            continue
        horizon = max((row["horizon"] for row in result["rows"]), key=_length)
        found, unseen = (
            {row["metric"]: row for row in result["rows"] if (row["horizon"], row.get("panel")) == (horizon, panel)}
            for panel in ("all", "never in the data")
        )
        cells = [
            f"{found[metric]['value']:.3f} [{found[metric]['low']:.3f}, {found[metric]['high']:.3f}]"
            for metric in ("Pearson r", "MMRV", "regret@1")
        ]
        rivals = {
            row.get("panel"): row
            for row in result["rows"]
            if row["horizon"] == horizon and row["metric"] == "Pearson r"
        }
        cells += [f"{rivals[panel]['value']:.3f}" if panel in rivals else "not measured" for panel in CONTROLS.values()]
        model = result.get("details", {}).get("world_model", {}).get("commit", "unknown commit")
        policies = f"{found['Pearson r']['n']} ({unseen['Pearson r']['n']})"
        lines.append(f"| {task}, {model.rstrip('+')} | {horizon} | {policies} | {' | '.join(cells)} |")
    return lines


def speed_table() -> list[str]:
    """Dream steps per second over MuJoCo's, best batch."""
    head = ("task", "observation", "batch", "dream steps per second ÷ MuJoCo with rendering", "÷ MuJoCo without")
    lines = _header(head)
    best: dict[tuple[str, str], dict[str, Any]] = {}
    rows = (read("dream_speed") or {"rows": []})["rows"]
    for row in rows:
        if row["metric"] == "dream_over_mujoco":
            key = (row["task"], row["observation"])
            best[key] = max(best.get(key, row), row, key=lambda r: r["value"])
    unrendered = {
        (row["task"], row["observation"], row["batch"]): f"{row['value']:.2f}"
        for row in rows
        if row["metric"] == "dream_over_mujoco_without_rendering"
    }
    for (task, observation), row in best.items():
        against = unrendered.get((task, observation, row["batch"]), NOT_MEASURED)
        lines.append(f"| {task} | {observation} | {row['batch']} | {row['value']:.1f} | {against} |")
    return lines


def kernels_table() -> list[str]:
    """Seconds of the products of one layer, ours beside the other implementations."""
    result = read("kernels") or {"rows": []}
    where = result.get("details", {}).get("machine", {}).get("device", NOT_MEASURED)
    lines = _header((where, "product", "µs", "low to high", "error against float64"))
    for row in result["rows"]:
        if "implementation" in row and row["value"]:
            error = row.get("error_against_float64")
            lines.append(
                f"| {row['task']} | {row['operation'].replace('_', ' ')} | {row['value'] * 1e6:.0f} "
                f"| {row['low'] * 1e6:.0f} to {row['high'] * 1e6:.0f} | {'' if error is None else f'{error:.1e}'} |"
            )
    return lines


def sparse_steps_table() -> list[str]:
    """A line for each preset: training steps per second over dense ones at each density, and the blocks chosen."""
    result = read("sparse_steps") or {"rows": []}
    densities = sorted({row["density"] for row in result["rows"]}, reverse=True)
    lines = _header(("preset", "width", *(f"density {density:g}" for density in densities)))
    for name in dict.fromkeys(row["preset"] for row in result["rows"]):
        rows = {row["density"]: row for row in result["rows"] if row["preset"] == name}
        blocks = {density: f" (b {row['block']})" if row["block"] else "" for density, row in rows.items()}
        cells = [f"{rows[density]['value']:.2f}{blocks[density]}" for density in densities]
        lines.append(f"| {name} | {rows[1.0]['width']} | {' | '.join(cells)} |")
    return lines


TOKENIZER_SCORES = {"psnr_db": ".1f", "ssim": ".3f", "framenet_distance": ".3f", "bytes_per_frame": ".0f"}
TOKENIZER_WHOLE = {
    "encode_ms_per_frame": ".2f",
    "decode_ms_per_frame": ".2f",
    "causality_difference": ".0f",
    "codebook codes used": ",.0f",
    "codebook tokens": ",.0f",
}


def tokenizers_table() -> list[str]:
    """A line for each method on all unseen tasks: means over clips, with intervals of the PSNR."""
    head = ("method", "PSNR [95 %], dB", "SSIM", "FrameNet distance", "bytes a frame", "ms a frame: encode", "decode")
    lines = _header((*head, "look-ahead, levels", "codes used", "of tokens"))
    rows = [row for row in (read("tokenizer") or {"rows": []})["rows"] if row["task"].startswith("all")]
    for method in dict.fromkeys(row["method"] for row in rows):
        found = {row["metric"]: row for row in rows if row["method"] == method}
        cells = [
            f"{found[name]['value']:{digits}}" if name in found else "" for name, digits in TOKENIZER_SCORES.items()
        ]
        cells[0] += f" [{found['psnr_db']['low']:.1f}, {found['psnr_db']['high']:.1f}]"
        cells += [
            f"{found[name]['value']:{digits}}" if name in found else "" for name, digits in TOKENIZER_WHOLE.items()
        ]
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return lines


TABLES: dict[str, tuple[Path, Callable[[], list[str]]]] = {
    "returns": (ROOT / "README.md", returns_table),
    "rankings": (ROOT / "docs" / "results.md", rankings_table),
    "ladder": (ROOT / "docs" / "results.md", lambda: ladder_table(RESULTS)),
    "speed": (ROOT / "docs" / "results.md", speed_table),
    "sparse steps": (ROOT / "docs" / "results.md", sparse_steps_table),
    "tokenizers": (ROOT / "docs" / "tokenizers.md", tokenizers_table),
    "kernels": (ROOT / "docs" / "results.md", kernels_table),
}
"""Where each table stands."""


def filled(text: str, name: str, lines: list[str]) -> str:
    """``text`` with the table called ``name`` made anew.

    Raises:
        SystemExit: the text has no place for it, or more than one.
    """
    start, end = f"<!-- {name}: made by `make results` -->", f"<!-- end of {name} -->"
    if text.count(start) != 1 or text.count(end) != 1:
        sys.exit(f"the page must hold {start} and {end}, once each")
    fresh = "\n".join([start, *lines, end])
    return re.sub(f"{re.escape(start)}.*{re.escape(end)}", lambda _: fresh, text, flags=re.DOTALL)


def _header(cells: tuple[str, ...]) -> list[str]:
    return [f"| {' | '.join(cells)} |", "|---" * len(cells) + "|"]


def _length(horizon: str) -> float:
    """Steps of "first 32 steps"; a whole episode is longer."""
    return math.inf if horizon == "whole episode" else int(horizon.split()[1])


def main() -> None:
    """Write every table into its page."""
    for name, (page, table) in TABLES.items():
        write_bytes(page, filled(page.read_text(encoding="utf-8"), name, table()).encode())


if __name__ == "__main__":
    main()
