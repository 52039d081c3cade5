"""Peak memory of training a world model, on some data and on ten times as much.

    python -m procosm.benchmarks.machine.training_memory

Made-up episodes of 64 x 64 frames, the preset ``debug``, a process for each training. ``frames`` says where frames and
latents lie: in memory, or on disk as they do where they would take more than half of what is free. Linux only.
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import record
from procosm.world_model import command
from procosm.world_model.data.episodes import Episode, frame_bytes, write_dataset
from procosm.world_model.data.task import Task, View, logged_signals
from procosm.world_model.settings import Count

STEPS, SIDE = 499, 64
SIZES = (1, 10)
TRAIN = """
import sys
from pathlib import Path
from procosm.benchmarks.memory import peak_bytes
from procosm.world_model.training.train import TrainConfig, train
train(TrainConfig(Path(sys.argv[1]), Path(sys.argv[2]), preset="debug", frames=sys.argv[3], device=sys.argv[4]))
print(peak_bytes())
"""


@dataclass(frozen=True)
class MemoryConfig(OnDevice):
    """How much data."""

    episodes: Count = 8
    """Of 500 frames each; then ten times as many."""


def task(side: int = SIDE) -> Task:
    """A task of square frames that nothing simulates."""
    views, signals = (View("camera", side, side),), logged_signals(4)
    return Task("Made-up-v0", views, (-1.0,), (1.0,), 1, 0.05, STEPS, signals, None)


def made_up(count: int, side: int = SIDE) -> Iterator[tuple[Episode, None]]:
    """Episodes of a bright square that goes where its state says, an eighth as many held out, and a constant one."""
    held_out = max(1, count // 8)
    for number in range(count + held_out + 1):
        rng = np.random.default_rng(number)
        states = np.cumsum(rng.normal(0, 0.02, (STEPS + 1, 4)), axis=0).astype(np.float32)
        frames, square = np.zeros((STEPS + 1, side, side, 3), np.uint8), side // 8
        places = np.clip(side * (0.44 + 0.31 * states), 0, side - square).astype(int)
        for frame, (x, y, *_) in zip(frames, places, strict=True):
            frame[y : y + square, x : x + square] = 255
        signals = {"state": states, "reward": states[1:, 0].copy()}
        kind = "train" if number < count else "holdout" if number < count + held_out else "constant"
        yield Episode(frames, rng.uniform(-1, 1, (STEPS, 1)).astype(np.float32), False, kind, signals=signals), None


def size_row(times: int, metric: str, size: int) -> dict[str, str | int]:
    """A row of so many bytes, of ``times`` the data."""
    return {"task": f"{times} x data", "unit": "MB", "metric": metric, "value": round(size / 1e6)}


def run(config: MemoryConfig) -> Path:
    """Measure and write the result."""
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for times in SIZES:
            data = Path(folder) / f"data-{times}"
            write_dataset(data, task(), made_up(times * config.episodes), {}, "{}")
            rows.append(size_row(times, "frames", frame_bytes(data)))
        for frames in ("disk", "memory"):
            for times in SIZES:
                made = Path(folder) / f"{frames}-{times}" / "world_model"
                arguments = [str(Path(folder) / f"data-{times}"), str(made), frames, config.device]
                done = subprocess.run(
                    [sys.executable, "-c", TRAIN, *arguments], stdout=subprocess.PIPE, text=True, check=True
                )
                rows.append(size_row(times, f"peak with frames in {frames}", int(done.stdout.split()[-1])))
                print(rows[-1], file=sys.stderr)
    return record("training_memory", rows)


if __name__ == "__main__":
    command.main(run, MemoryConfig)
