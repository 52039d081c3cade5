"""Plants faults, cuts and copies in MuJoCo video and says how well curation finds them, how fast, and what it costs.

python -m procosm.benchmarks.dream.curation --out runs/bench/curation

Limits and models' settings were chosen on episodes of other seeds than those judged here. Each part is kept in OUT once
it is measured: killed at any moment, the same command goes on.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from procosm.benchmarks.dream.curation import scores
from procosm.benchmarks.dream.curation.guarded import guarded
from procosm.benchmarks.dream.curation.recordings import TASKS, Recording, record
from procosm.benchmarks.dream.curation.speed import speeds
from procosm.benchmarks.record import RESULTS
from procosm.benchmarks.record import record as write
from procosm.world_model.command import main
from procosm.world_model.files import write_json
from procosm.world_model.settings import Count, Settings

Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class CurationConfig(Settings):
    """What is measured."""

    out: Path = Path("runs/bench/curation")
    """Where recordings, shards and parts of the result go; what is there is used."""
    seeds: Count = 3
    """Sets of recordings and of planted faults."""
    episodes: Count = 40
    """Of each task and seed."""
    steps: Count = 60
    """Of each episode."""
    speed: bool = False
    """Measure clips per second on one and two processes, and memory as the logs grow, too; needs a machine at rest."""
    publish: bool = False
    """Write the result where the README's tables are made from."""


def measure(config: CurationConfig) -> Path:
    """All of it; returns the result file."""
    rows: Rows = []
    for seed in range(config.seeds):
        recordings = [record(name, seed, config.episodes, config.steps, config.out) for name in TASKS]
        for name, part in _parts(recordings, seed, config).items():
            path = config.out / "parts" / f"{seed}-{config.episodes}x{config.steps}-{name}.json"
            if not path.exists():
                write_json(path, part())
            rows += json.loads(path.read_text(encoding="utf-8"))
    return write("curation", rows, RESULTS if config.publish else config.out)


def _parts(recordings: list[Recording], seed: int, config: CurationConfig) -> dict[str, Callable[[], Rows]]:
    """What is measured of one seed, by name."""
    half = [Recording(each.task, each.episodes[::2]) for each in recordings]
    parts: dict[str, Callable[[], Rows]] = {
        "cuts": partial(scores.cuts, recordings, seed),
        "duplicates": partial(scores.duplicates, recordings, seed),
        "pictures": partial(scores.picture_faults, half, seed),
        "guard": partial(guarded, half, seed),
    }
    parts |= {f"actions-{each.task.id}": partial(scores.action_faults, each, seed) for each in recordings}
    if config.speed and seed == 0:
        parts["speed"] = partial(speeds, recordings[0], config.out)
    return parts


if __name__ == "__main__":
    main(measure, CurationConfig)
