"""Plants faults, cuts and copies in MuJoCo video and says how well curation finds them, how fast, and what it costs.

python -m procosm.benchmarks.dream.curation --out runs/bench/curation
"""

from dataclasses import dataclass
from pathlib import Path

from procosm.benchmarks.dream.curation import scores
from procosm.benchmarks.dream.curation.recordings import TASKS, record
from procosm.benchmarks.dream.curation.speed import speeds
from procosm.benchmarks.record import RESULTS
from procosm.benchmarks.record import record as write
from procosm.world_model.command import main
from procosm.world_model.settings import Count, Settings


@dataclass(frozen=True)
class CurationConfig(Settings):
    """What is measured."""

    out: Path = Path("runs/bench/curation")
    """Where recordings and shards go; recordings that are there are used."""
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
    rows = []
    for seed in range(config.seeds):
        recordings = [record(name, seed, config.episodes, config.steps, config.out) for name in TASKS]
        rows += scores.cuts(recordings, seed) + scores.duplicates(recordings, seed)
        rows += scores.picture_faults(recordings, seed)
        for recording in recordings:
            rows += scores.action_faults(recording, seed)
        if config.speed and seed == 0:
            rows += speeds(recordings[0], config.out)
        write("curation", rows, RESULTS if config.publish else config.out)
    return write("curation", rows, RESULTS if config.publish else config.out)


if __name__ == "__main__":
    main(measure, CurationConfig)
