"""How fast logs are curated on one and on two processes, and how much memory that takes as the logs grow."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from procosm.benchmarks.dream.curation.recordings import Recording
from procosm.world_model.data.episodes import Episode, write_dataset

PROGRAM = """
import sys, time
from pathlib import Path
from procosm.benchmarks.memory import peak_bytes
from procosm.world_model.curation.curate import CurateConfig, curate
if __name__ == "__main__":
    begun = time.perf_counter()
    curate(CurateConfig(data=Path(sys.argv[1]), out=Path(sys.argv[2]), workers=int(sys.argv[3]), action_logs=0,
                        clips_per_shard=16))
    print("RESULT", time.perf_counter() - begun, peak_bytes())
"""
SMALL, GROWTH = 60, 10
WORKERS = (1, 2)


def speeds(recording: Recording, out: Path) -> list[dict[str, Any]]:
    """Clips and megabytes per second, by stage and in all, and the peak of memory at one and at ten times the logs."""
    rows = []
    small, large = (_logs(recording, out / f"logs{times}", times) for times in (1, GROWTH))
    for workers in WORKERS:
        seconds, peak, summary = _run(large, out / f"shards-{workers}", workers)
        task, clips = recording.task.id, summary["clips"]
        rows += [
            _row(f"{workers} processes, clips per second", clips / seconds, "1/s", task, clips),
            _row(f"{workers} processes, decoded video", summary["megabytes"] / seconds, "MB/s", task, clips),
        ]
        for stage, rate in summary["clips_per_second"].items():
            megabytes = summary["megabytes"] / max(1e-9, summary["seconds"][stage])
            rows.append(_row(f"{workers} processes, {stage}, clips per second of work", rate, "1/s", task, clips))
            rows.append(_row(f"{workers} processes, {stage}, video per second of work", megabytes, "MB/s", task, clips))
        if workers == 1:
            _, before, _ = _run(small, out / "shards-small", workers)
            rows += [
                _row("peak memory", before, "MB", task, SMALL),
                _row(f"peak memory, {GROWTH} times the logs", peak, "MB", task, SMALL * GROWTH),
            ]
    return rows


def _logs(recording: Recording, path: Path, times: int) -> Path:
    """A dataset of so many episodes; each is its own beginning joined to another's, so that none is a duplicate."""
    if not path.exists():
        count = SMALL * times
        chosen = [recording.episodes[index % len(recording.episodes)] for index in range(count)]
        turned = [(f if index < len(recording.episodes) else f[:, :, ::-1], a) for index, (f, a) in enumerate(chosen)]
        task = recording.task.__class__(**{**vars(recording.task), "signals": {}})
        write_dataset(path, task, ((Episode(f.copy(), a, False, "train"), None) for f, a in turned), {}, None)
    return path


def _run(logs: Path, out: Path, workers: int) -> tuple[float, float, dict[str, Any]]:
    """Seconds, peak memory of the driver in MB, and what the run says of itself."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PROGRAM, str(logs), str(out), str(workers)]
    run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    line = next(line for line in run.stdout.splitlines() if line.startswith("RESULT"))
    _, seconds, peak = line.split()
    return float(seconds), float(peak) / 1e6, json.loads((out / "curation.json").read_text())


def _row(metric: str, value: float, unit: str, task: str, n: int) -> dict[str, Any]:
    return {"metric": metric, "task": task, "value": round(value, 2), "unit": unit, "seed": 0, "n": n}
