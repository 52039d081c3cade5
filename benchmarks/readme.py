"""Writes the README's table from ``results/*.json``: ``make results``. Numbers that were not measured say so."""

import math
import re
import statistics
import sys
from typing import Any

from procosm.benchmarks.record import RESULTS
from procosm.world_model.files import read_json, write_bytes

README = RESULTS.parent.parent / "README.md"
START, END = "<!-- results: made by `make results` -->", "<!-- end of results -->"
TASKS = ("InvertedPendulum", "Reacher", "HalfCheetah")


def read(name: str) -> dict[str, Any] | None:
    """One result file, or None where it was never measured."""
    path = RESULTS / f"{name}.json"
    return read_json(path) if path.exists() else None


def values(result: dict[str, Any], metric: str) -> list[dict[str, Any]]:
    """The rows of a metric, one for each seed."""
    return sorted((row for row in result["rows"] if row["metric"] == metric), key=lambda row: row["seed"])


def task_row(task: str) -> str:
    """A task's line of the table; all seeds, none left out."""
    result = read(f"pipeline_{task.lower()}")
    if result is None:
        return f"| {task} | not measured | | | | |"
    trained = values(result, "return of trained in mujoco")
    shown = " · ".join(f"**{row['value']:.1f}** [{row['low']:.1f}, {row['high']:.1f}]" for row in trained)
    zero = statistics.mean(row["value"] for row in values(result, "return of zero in mujoco"))
    steps = values(result, "real steps collected")[0]["value"]
    minutes = " · ".join(f"{row['value'] / 60:.0f}" for row in values(result, "seconds in all"))
    return f"| {task} | {shown} | {trained[0]['n']} | {zero:.1f} | {steps:,} | {minutes} |"


def ranking_row(task: str) -> str | None:
    """How well the dream ranks policies over the longest part of an episode that was ranked; None if not measured."""
    result = read(f"ranking_{task.lower()}")
    if result is None:
        return None
    horizon = max((row["horizon"] for row in result["rows"]), key=_length)
    found, unseen = (
        {row["metric"]: row for row in result["rows"] if (row["horizon"], row.get("panel")) == (horizon, panel)}
        for panel in ("all", "never in the data")
    )
    cells = [
        f"{found[metric]['value']:.3f} [{found[metric]['low']:.3f}, {found[metric]['high']:.3f}]"
        for metric in ("Pearson r", "MMRV", "regret@1")
    ]
    policies = f"{found['Pearson r']['n']} ({unseen['Pearson r']['n']})"
    return f"| {task} | {horizon} | {policies} | {' | '.join(cells)} |"


def _length(horizon: str) -> float:
    """Steps of "first 32 steps"; a whole episode is longer."""
    return math.inf if horizon == "whole episode" else int(horizon.split()[1])


def table() -> str:
    """The results section."""
    lines = [
        "| task, 64 × 64 pixels | return in MuJoCo of the policy trained only in the dream: each seed's mean "
        "[95 % interval] | over episodes | zero action | real steps "
        "| minutes of wall clock, all stages, mostly beside other work |",
        "|---|---|---|---|---|---|",
        *(task_row(task) for task in TASKS),
    ]
    ranked = [row for row in map(ranking_row, TASKS) if row]
    if ranked:
        lines += [
            "",
            "| does the dream rank policies as MuJoCo does? "
            "| returns over | policies (of them never in its data) | Pearson r [95 %] | MMRV | regret@1 |",
            "|---|---|---|---|---|---|",
            *ranked,
        ]
    speed = read("dream_speed")
    if speed is not None:
        best: dict[tuple[str, str], dict[str, Any]] = {}
        for row in speed["rows"]:
            if row["metric"] == "dream_over_mujoco":
                key = (row["task"], row["observation"])
                best[key] = max(best.get(key, row), row, key=lambda r: r["value"])
        told = "; ".join(
            f"{task}, {observation}: {row['value']:.1f} × (batch {row['batch']})"
            for (task, observation), row in best.items()
        )
        lines += ["", f"Dream steps per second over MuJoCo physics + rendering, same frames, same cores: {told}."]
    return "\n".join(lines)


def main() -> None:
    """Replace the README's results section."""
    text = README.read_text()
    if text.count(START) != 1 or text.count(END) != 1:
        sys.exit(f"{README} must hold {START} and {END}, once each")
    fresh = re.sub(f"{START}.*{END}", lambda _: f"{START}\n{table()}\n{END}", text, flags=re.DOTALL)
    write_bytes(README, fresh.encode())


if __name__ == "__main__":
    main()
