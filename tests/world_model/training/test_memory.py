"""Ten times the data, the same memory: a whole training on frames that stay on disk."""

import math
import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from procosm.benchmarks.machine.training_memory import made_up, task
from procosm.world_model.data import on_disk
from procosm.world_model.data.episodes import Episode, frame_bytes, write_dataset
from procosm.world_model.data.task import Task, View, logged_signals
from procosm.world_model.data.windows import choose_starts
from procosm.world_model.encoding import FRAMES
from procosm.world_model.evaluation import growth
from procosm.world_model.training import validation
from procosm.world_model.training.assembled import RESETS
from procosm.world_model.training.presets import Preset, preset
from procosm.world_model.training.train import TrainConfig, train


def short() -> Preset:
    """The smallest sizes, two steps a stage."""
    sizes = preset("debug")
    for name in sizes.stages:
        sizes = sizes.with_stage(name, steps=2)
    return sizes


def many_short_episodes(folder: Path, states: bool) -> Path:
    """More than are kept as first frames, and more held out than are dreamed of at once."""
    views, signals = (View("camera", 32, 32),), logged_signals(2)
    if not states:
        signals.pop("state")
    logged = Task("Made-up-v0", views, (-1.0,), (1.0,), 1, 0.05, 20, signals, None)
    rng, episodes = np.random.default_rng(0), []
    for number in range(360):
        steps, kind = (3, "train") if number < 300 else (20, "holdout")
        frames = np.zeros((steps + 1, 32, 32, 3), np.uint8)
        frames[:, 8:16] = rng.integers(0, 256, (steps + 1, 1, 1, 1))
        values = {"reward": rng.normal(size=steps), "state": rng.normal(size=(steps + 1, 2))}
        kept = {name: values[name].astype(np.float32) for name in values if name in signals}
        actions = rng.uniform(-1, 1, (steps, 1)).astype(np.float32)
        episodes.append((Episode(frames, actions, False, kind, signals=kept), None))
    write_dataset(folder, logged, iter(episodes), {}, None)
    return folder


@pytest.mark.parametrize("states", [True, False], ids=["states", "no states"])
def test_no_part_of_a_training_reads_more_at_once_as_the_data_grow(tmp_path, monkeypatch, states):
    """Batches, open-loop windows, starts and first frames have bounds of their own; all else reads some at a time."""
    data, reads, read = many_short_episodes(tmp_path / "data", states), list[int](), on_disk.Rows.__getitem__

    def watched(self, index):
        found = read(self, index)
        reads.append(found.numel() // math.prod(self.shape[1:]))
        return found

    monkeypatch.setattr(on_disk.Rows, "__getitem__", watched)
    monkeypatch.setattr(on_disk, "PIECE", 64)
    monkeypatch.setattr(on_disk, "SAMPLE", 512)
    monkeypatch.setattr(growth, "FRAMES", 8)
    monkeypatch.setattr(validation, "WINDOWS", 8)
    monkeypatch.setattr("procosm.world_model.training.assembled.choose_starts", partial(choose_starts, most=16))
    train(TrainConfig(data, tmp_path / "run" / "world_model", frames="disk", device="cpu"), short())
    windows = 8 * (3 + validation.HORIZON)
    assert max(reads) <= max(3 * on_disk.PIECE, windows, FRAMES, RESETS)


# Buffers of a fixed size are so small that the smaller dataset fills them, too.
TRAIN = """
import sys
from pathlib import Path
from procosm.benchmarks.memory import peak_bytes
from procosm.world_model.data import on_disk
from procosm.world_model.tokenizer import recipe
from procosm.world_model.training.train import TrainConfig, train
from tests.world_model.training.test_memory import short
on_disk.KEPT, on_disk.PIECE, recipe.SAMPLE = 1 << 20, 256, 256
train(TrainConfig(Path(sys.argv[1]), Path(sys.argv[2]), frames="disk", device="cpu"), short())
print(peak_bytes())
"""


def peak(data: Path) -> int:
    """Of a training in a process of its own, for another's leavings would count with it."""
    exact = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is given back at once
    command = [sys.executable, "-c", TRAIN, str(data), str(data.with_suffix(".run") / "world_model")]
    done = subprocess.run(command, capture_output=True, text=True, env=exact)
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere peaks have other units")
def test_peak_memory_does_not_grow_with_the_data(tmp_path):
    folders = [tmp_path / "once", tmp_path / "ten"]
    for folder, episodes in zip(folders, (2, 20), strict=True):
        write_dataset(folder, task(32), made_up(episodes, 32), {}, "{}")
    once, ten = map(peak, folders)
    more = frame_bytes(folders[1]) - frame_bytes(folders[0])
    assert more > 25e6 and ten - once < more / 5, (once / 1e6, ten / 1e6)
