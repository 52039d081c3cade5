"""Judges the episodes of a ranking again, by the statistics and controls of today.

    python -m procosm.benchmarks.dream.ranking_again --result benchmarks/results/ranking_reacher.json

Nothing is played: commit, command and date stay those of the episodes, ``details.judged_again`` says what judged them.
"""

import csv
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from procosm.agents.judge.ranking.agreement import Scores, agreement_rows
from procosm.agents.judge.ranking.members import Member
from procosm.agents.report.result_files import content_of, episodes_file
from procosm.benchmarks.dream.ranking import INTERVALS
from procosm.benchmarks.dream.ranking_figure import scatter
from procosm.world_model import command
from procosm.world_model.files import read_json, write_json
from procosm.world_model.provenance import provenance
from procosm.world_model.settings import Settings


@dataclass(frozen=True)
class AgainConfig(Settings):
    """Judge a ranking again."""

    result: Path
    """A ranking's JSON, its episodes (.csv.gz) beside it."""


def training_of(policy: str) -> str:
    """The training a policy of a panel comes from: ``sac-s0`` for ``sac-s0-4`` and for ``sac-s0-4 eps 0.1``."""
    return re.sub(r"^((?:ppo|sac|td3)-s\d+)-\d+$", r"\1", re.sub(r" eps \S+$", "", policy))


def episodes(path: Path) -> dict[str, list[dict[str, dict[str, float]]]]:
    """Pairs of episodes of each policy: what was earned in ``truth`` and in ``dream``, by name."""
    found: dict[str, list[dict[str, dict[str, float]]]] = {}
    for line in csv.DictReader(io.StringIO(content_of(path).decode("utf-8"))):
        pair = {
            world: {key.removeprefix(f"{world}_"): float(value) for key, value in line.items() if key.startswith(world)}
            for world in ("truth", "dream")
        }
        found.setdefault(line["policy"], []).append(pair)
    return found


def ranking_again(config: AgainConfig) -> Path:
    """Write the rows and the figure anew; returns the JSON."""
    result: dict[str, Any] = read_json(config.result)
    details, task = result["details"], result["rows"][0]["task"]
    members = [
        Member(m["policy"], m["family"], steps=m["steps"], seen=m["seen"], run=training_of(m["policy"]))
        for m in details["panel"]
    ]
    played = episodes(episodes_file(config.result))
    real, dreamed = ([[pair[world] for pair in played[m.name]] for m in members] for world in ("truth", "dream"))
    keys = [key for key in real[0][0] if key.startswith("return" if details.get("cut") is None else "return_")]
    panels = [Scores.of(key, real, dreamed) for key in keys]
    rows = [{"task": task, **row} for scores in panels for row in agreement_rows(members, scores)]
    judged = {key: value for key, value in provenance({}).items() if key in ("command", "commit", "date")}
    details |= {"intervals": INTERVALS, "judged_again": judged}
    write_json(config.result, result | {"rows": rows, "details": details})
    scatter(members, panels, rows, config.result.parent / "figures" / f"{config.result.stem}.png", task)
    return config.result


if __name__ == "__main__":
    command.main(ranking_again, AgainConfig)
