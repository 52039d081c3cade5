"""Ten times the data, the same memory: a whole training on frames that stay on disk."""

import json
import subprocess
import sys

import pytest

from procosm.benchmarks.machine.training_memory import made_up, task
from procosm.world_model.data.episodes import frame_bytes, write_dataset

# The smaller dataset first: a peak that ten times as much raises shows. Buffers of a fixed size are so small that the
# smaller one fills them, too.
TRAIN = """
import json, sys
from pathlib import Path
from procosm.benchmarks.memory import peak_bytes
from procosm.world_model.data import on_disk
from procosm.world_model.tokenizer import recipe
from procosm.world_model.training.presets import preset
from procosm.world_model.training.train import TrainConfig, train
on_disk.KEPT, on_disk.SAMPLE, on_disk.PIECE, recipe.SAMPLE = 1 << 20, 256, 256, 256
sizes, peaks = preset("debug"), []
for name in sizes.stages:
    sizes = sizes.with_stage(name, steps=2)
for data in map(Path, sys.argv[1:]):
    train(TrainConfig(data, data.with_suffix(".run") / "world_model", frames="disk", device="cpu"), sizes)
    peaks.append(peak_bytes())
print(json.dumps(peaks))
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere peaks have other units")
def test_peak_memory_does_not_grow_with_the_data(tmp_path):
    folders = [tmp_path / "once", tmp_path / "ten"]
    for folder, episodes in zip(folders, (2, 20), strict=True):
        write_dataset(folder, task(32), made_up(episodes, 32), {}, "{}")
    run = subprocess.run([sys.executable, "-c", TRAIN, *map(str, folders)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    once, ten = json.loads(run.stdout.splitlines()[-1])
    more = frame_bytes(folders[1]) - frame_bytes(folders[0])
    assert more > 25e6 and ten - once < more / 3, (once / 1e6, ten / 1e6)
