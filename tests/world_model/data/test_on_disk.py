"""What stays on disk is what memory would hold, and memory does not grow with it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from procosm.world_model.data import on_disk
from procosm.world_model.data.episodes import Episode, frame_bytes, load_episodes, write_dataset
from procosm.world_model.data.on_disk import EpisodeFrames, FrameFile, LatentFile, write_latents
from procosm.world_model.data.source import Source
from procosm.world_model.data.windows import tabulate
from procosm.world_model.errors import DatasetError
from tests.world_model.data.test_episodes import SPEC, TASK


def dataset(folder: Path, lengths: list[int]) -> Path:
    """Episodes of so many steps, every frame another."""
    made = []
    for number, length in enumerate(lengths):
        rng = np.random.default_rng(number)
        shades = rng.integers(0, 256, (length + 1, 1, 1, 3), dtype=np.uint8)
        frames = np.broadcast_to(shades, (length + 1, *TASK.frame_shape)).copy()
        frames[:, 0, 0, 0] = np.arange(length + 1) % 256
        signals = {
            "state": rng.standard_normal((length + 1, TASK.state_size)).astype(np.float32),
            "reward": rng.standard_normal(length).astype(np.float32),
        }
        actions = rng.uniform(-1, 1, (length, 2)).astype(np.float32)
        made.append((Episode(frames, actions, False, "train", signals=signals), None))
    write_dataset(folder, TASK, iter(made), {}, SPEC)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return dataset(tmp_path_factory.mktemp("data") / "data", [40, 1, 17, 90])


@pytest.mark.parametrize("kept", [0, 10**9])
@pytest.mark.parametrize("together", [16, None])
def test_frames_on_disk_are_those_in_memory(folder, tmp_path, monkeypatch, kept, together):
    """Also of datasets whose episodes are compressed whole, as they were before."""
    monkeypatch.setattr(on_disk, "KEPT", kept)
    if together is None:
        monkeypatch.setattr("procosm.world_model.data.episodes.TOGETHER", 10**6)
        folder = dataset(tmp_path / "data", [40, 1, 17, 90])
    here, there = load_episodes(folder), load_episodes(folder, frames_on_disk=True)
    assert all(isinstance(episode.frames, EpisodeFrames) for episode in there)
    for ours, theirs in zip(here, there, strict=True):
        np.testing.assert_array_equal(ours.frames, theirs.frames[:])
        np.testing.assert_array_equal(ours.frames[[0, -1, 1]], theirs.frames[[0, -1, 1]])
        np.testing.assert_array_equal(ours.actions, theirs.actions)
    tables = tabulate(here, "train", 3), tabulate(there, "train", 3)
    index = torch.randint(len(tables[0].frames), (5, 3), generator=torch.Generator().manual_seed(0))
    assert tables[1].to(torch.device("cpu")).frames is tables[1].frames
    assert torch.equal(tables[0].seen(index), tables[1].seen(index))
    assert torch.equal(tables[0].frames[::7], tables[1].frames[::7]) and len(tables[1].frames[:0]) == 0
    assert tables[0].frames.shape == tables[1].frames.shape and frame_bytes(folder) == tables[0].frames.nbytes


def test_blocks_are_kept_up_to_a_bound_and_the_latest_stay(folder):
    file = FrameFile(load_episodes(folder, frames_on_disk=True)[0].frames.file.path, kept=3 * 16 * 32 * 32 * 3)
    for number in (0, 1, 0, 2, 3, 0, 4):
        file.block(3, number, 16)
        assert sum(block.nbytes for block in file._blocks.values()) == file._bytes <= file.kept
    assert list(file._blocks) == [(3, 3), (3, 0), (3, 4)]


def test_damage_is_found_before_or_when_a_frame_is_read(folder, tmp_path):
    episodes = load_episodes(folder, frames_on_disk=True)
    path = tmp_path / "main_data.hdf5"
    path.write_bytes((folder / "main_data.hdf5").read_bytes())
    with h5py.File(path, "a") as file:
        del file["episode_3/observations/pixels"]
    with pytest.raises(DatasetError, match=r"episode 3 of .* cannot be read any more"):
        EpisodeFrames(FrameFile(path), 3, episodes[3].frames.shape, 16)[5]
    with h5py.File(path, "a") as file:
        file.create_dataset("episode_3/observations/pixels", data=np.zeros((91, 8, 8, 3), np.uint8))
    for name in ("metadata.json", "task.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    with pytest.raises(DatasetError, match=r"episode 3 .*pixels is uint8 \(91, 8, 8, 3\)"):
        load_episodes(tmp_path, frames_on_disk=True)


def test_latents_in_a_file_are_the_latents(tmp_path):
    latents = torch.randn(50, 2, 3, 4)
    write_latents(tmp_path / "a" / "latents", iter(latents.split(7)))
    stored = LatentFile(tmp_path / "a" / "latents", (50, 2, 3, 4))
    for index in (torch.tensor([[3, 4, 5], [49, 49, 0]]), torch.arange(50), torch.tensor(7), slice(2, 40, 3)):
        assert torch.equal(stored[index], latents[index])
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["latents"]
    with pytest.raises(DatasetError, match="delete it"):
        LatentFile(tmp_path / "a" / "latents", (51, 2, 3, 4))


def test_a_batch_is_a_function_of_seed_step_and_rank(folder):
    table = tabulate(load_episodes(folder, frames_on_disk=True), "train", 3)
    source = Source(table, 12, seed=3)
    for step in (0, 1, 10**6):
        whole = source.batch(step)
        assert torch.equal(whole, Source(table, 12, 3).batch(step))
        for count in (2, 3, 4):
            assert torch.equal(torch.cat([source.batch(step, rank, count) for rank in range(count)]), whole)
    assert not torch.equal(source.batch(0), source.batch(1))
    assert not torch.equal(source.batch(0), Source(table, 12, 4).batch(0))


LEARN = """
import json, sys
from pathlib import Path
import torch
from procosm.benchmarks.memory import peak_bytes
from procosm.world_model.data import on_disk
from procosm.world_model.data.episodes import load_episodes
from procosm.world_model.data.on_disk import latents_on_disk
from procosm.world_model.data.source import Source
from procosm.world_model.data.windows import context_index, tabulate

on_disk.KEPT = 2 << 20
peaks = []
for folder in sys.argv[1:]:
    table = tabulate(load_episodes(folder, frames_on_disk=True), "train", 3)
    encode = lambda frames: frames[:, ::8, ::8].float().permute(0, 3, 1, 2)
    latents = latents_on_disk(Path(folder) / "latents", table.frames, (3, 4, 4), encode)
    source, total = Source(table, 64, 0), torch.zeros(())
    for step in range(100):
        at = source.batch(step)
        seen = context_index(table, at, 3)
        assert torch.equal(encode(table.seen(seen).flatten(0, 1)), latents[seen].flatten(0, 1))
    peaks.append((peak_bytes() / 2**20, table.frames.shape[0]))
print(json.dumps(peaks))
"""


def test_ten_times_the_data_take_the_same_memory(tmp_path):
    """In one process, the small dataset first: a peak that ten times as much would raise, it would show."""
    once, ten = dataset(tmp_path / "once", [499] * 6), dataset(tmp_path / "ten", [499] * 60)
    command = [sys.executable, "-c", LEARN, str(once), str(ten)]
    exact = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed is given back at once
    (before, frames), (after, more) = json.loads(
        subprocess.run(command, capture_output=True, text=True, check=True, env=exact).stdout
    )
    assert more == 10 * frames and frame_bytes(ten) > 90e6
    assert after - before < 15, (before, after)
