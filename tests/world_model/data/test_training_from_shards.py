"""Training reads shards: every window once an epoch, the same with any number of processes, and after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from procosm.world_model.curation.curate import CurateConfig, curate
from procosm.world_model.curation.records import Clip
from procosm.world_model.curation.shard import plan_shards, write_index, write_shard
from procosm.world_model.data import clip_frames, on_disk
from procosm.world_model.data.clips import load_clips
from procosm.world_model.data.datasets import frame_bytes, load_episodes, load_task
from procosm.world_model.data.episodes import write_dataset
from procosm.world_model.data.ingest import IngestConfig, ingest
from procosm.world_model.data.source import Source
from procosm.world_model.data.windows import cut, tabulate
from procosm.world_model.errors import DatasetError
from procosm.world_model.files import read_tensors
from procosm.world_model.training.train import TrainConfig, train
from tests.world_model.curation import scenes

TASK = replace(scenes.TASK, views=(replace(scenes.TASK.views[0], height=64),))


def square(seed: int, steps: int):
    """A drawn film on a square of 64 pixels, as tokenizers want them."""
    episode = scenes.episode(seed, steps)
    return replace(episode, frames=np.pad(episode.frames, ((0, 0), (8, 8), (0, 0), (0, 0)), mode="edge"))


@pytest.fixture(scope="module")
def shards(tmp_path_factory) -> Path:
    """Clips of 16 to 25 steps in shards of three."""
    folder = tmp_path_factory.mktemp("shards")
    write_dataset(folder / "logs", TASK, ((square(seed, 16 + seed), None) for seed in range(10)), {}, None)
    return curate(CurateConfig(data=folder / "logs", out=folder / "shards", clips_per_shard=3, action_logs=0))


def source(folder: Path, size: int, frames_on_disk: bool = True, seed: int = 5) -> Source:
    return Source(tabulate(load_episodes(folder, frames_on_disk), "train", 3), size, seed, in_epochs=True)


def test_shards_hold_what_is_ingested_from_them(shards, tmp_path):
    dataset = ingest(IngestConfig(data=shards, out=tmp_path))
    assert load_task(shards) == load_task(dataset) and frame_bytes(shards) == frame_bytes(dataset)
    ingested, read = load_episodes(dataset), load_episodes(shards, frames_on_disk=True)
    assert [episode.kind for episode in ingested] == [episode.kind for episode in read]
    for ours, theirs in zip(read, ingested, strict=True):
        np.testing.assert_array_equal(ours.frames[[3, 0, -1]], theirs.frames[[3, 0, -1]])
    clips = load_clips([shards], 9)  # what procosm train-tokenizer learns from
    assert [len(clips.train), len(clips.held_out)] == [len(read) - 1, 1]
    streamed, whole = source(shards, 8), source(dataset, 8, frames_on_disk=False)
    for step in (0, 1, 40, 10**6):
        at = streamed.batch(step)
        assert torch.equal(at, whole.batch(step))
        ours, theirs = cut(streamed.table, at, 3, 2), cut(whole.table, at, 3, 2)
        assert torch.equal(ours.frames, theirs.frames) and torch.equal(ours.actions[:, 2:], theirs.actions[:, 2:])


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_the_processes_together_see_every_window_once_an_epoch(shards, ranks, monkeypatch):
    monkeypatch.setattr(on_disk, "MIXED", 60 * 64 * 64 * 3)  # about three clips
    each = [source(shards, 12) for _ in range(ranks)]
    windows = len(each[0].table.steps)
    steps = 3 * windows // 12  # of four epochs, one of them begun within a batch
    seen = torch.cat([each[rank].batch(step, rank, ranks) for step in range(steps) for rank in range(ranks)])
    alone = torch.cat([source(shards, 12).batch(step) for step in range(steps)])
    assert torch.equal(seen, alone)
    for epoch in range(len(seen) // windows):
        order = torch.cat([each[0]._epochs.windows(epoch * windows + k, 1) for k in range(windows)])
        assert torch.equal(order.sort().values, each[0].table.steps)
        assert not torch.equal(order, each[0].table.steps)
    counts = torch.bincount(seen, minlength=len(each[0].table.first))[each[0].table.steps]
    assert counts.min() >= len(seen) // windows and counts.max() <= -(-len(seen) // windows)
    assert not torch.equal(source(shards, 12, seed=6).batch(0), alone[:12])


def test_a_clip_is_decoded_about_once_an_epoch_and_not_by_every_process(shards, monkeypatch):
    monkeypatch.setattr(on_disk, "MIXED", 60 * 64 * 64 * 3)
    decoded = []
    decode = clip_frames.decode
    monkeypatch.setattr(clip_frames, "decode", lambda *given: decoded.append(given) or decode(*given))
    streamed = source(shards, 8)
    clips = len(streamed.table.first.unique())
    epochs = 3
    for step in range(epochs * len(streamed.table.steps) // 8):
        cut(streamed.table, streamed.batch(step), 3, 1)
    assert len(decoded) <= 1.5 * epochs * clips
    drawn = Source(streamed.table, 8, 5)
    decoded.clear()
    for step in range(epochs * len(drawn.table.steps) // 8):
        cut(drawn.table, drawn.batch(step), 3, 1)
    assert len(decoded) > 2 * epochs * clips, "the control: windows drawn from everywhere"


def test_a_damaged_shard_is_refused_or_left_out_by_name(shards, tmp_path, capsys):
    copy = shutil.copytree(shards, tmp_path / "copy")
    damaged = sorted(copy.glob("*.tar"))[1]
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    for there in (True, False):
        with pytest.raises(DatasetError, match=rf"{damaged.name} is not what was written.*--damaged skip"):
            load_episodes(copy, frames_on_disk=there)
        left = load_episodes(copy, there, "skip")
        assert len(left) == len(load_episodes(shards, there)) - 3
        assert f"left out: {damaged}" in capsys.readouterr().err
    for path in copy.glob("*.tar"):
        path.unlink()
    with pytest.raises(DatasetError, match="is missing"):
        load_episodes(copy, damaged="skip")
    dataset = ingest(IngestConfig(data=shards, out=tmp_path / "dataset"))
    with pytest.raises(DatasetError, match="--damaged skip is for shards"):
        load_episodes(dataset, damaged="skip")


def test_a_shard_that_changes_under_a_reader_is_named(shards, tmp_path):
    copy = shutil.copytree(shards, tmp_path / "copy")
    episode = load_episodes(copy, frames_on_disk=True)[0]
    for path in copy.glob("*.tar"):
        path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(DatasetError, match=r"its mp4 does not lie where the index says"):
        episode.frames[0]


def test_what_came_last_cannot_be_asked_of_shards(shards, tmp_path):
    with pytest.raises(DatasetError, match=r"--recent 2: .*shards, which do not say which episodes came last"):
        train(TrainConfig(data=shards, out=tmp_path / "run", preset="debug", recent=2))
    assert not list(tmp_path.iterdir())


def test_stopped_in_an_epoch_and_with_frames_elsewhere_it_ends_with_the_same_weights(shards, tmp_path, monkeypatch):
    """In memory without a stop, and streamed with one: bit for bit the same."""
    whole = train(TrainConfig(data=shards, out=tmp_path / "whole", preset="debug", frames="memory"))
    streamed = TrainConfig(data=shards, out=tmp_path / "streamed", preset="debug", frames="disk")
    batch = Source.batch

    def stopped(self: Source, step: int, *place: int) -> torch.Tensor:
        assert self.size * 20 < len(self.table.steps), "all steps lie within one epoch"
        if step == 7:
            os.kill(os.getpid(), signal.SIGINT)  # what is done is saved
        return batch(self, step, *place)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Source, "batch", stopped)
        train(streamed)
    assert int(read_tensors(tmp_path / "streamed.training" / "tokenizer.safetensors", "")["step"]) == 8
    train(streamed)
    for name in ("tokenizer", "dynamics", "starts"):
        ours, theirs = (read_tensors(folder / f"{name}.safetensors") for folder in (whole, streamed.out))
        assert ours.keys() == theirs.keys() and all(torch.equal(ours[key], theirs[key]) for key in ours)


READ = """
import json, sys
from pathlib import Path
from procosm.benchmarks.memory import peak_bytes
from procosm.world_model.data import on_disk
from procosm.world_model.data.datasets import load_episodes
from procosm.world_model.data.source import Source
from procosm.world_model.data.windows import cut, tabulate

on_disk.MIXED = 2 << 20
peaks = []
for folder in sys.argv[1:]:
    table = tabulate(load_episodes(Path(folder), frames_on_disk=True), "train", 3)
    source = Source(table, 32, 0, in_epochs=True)
    for step in range(len(table.steps) // 32):
        cut(table, source.batch(step), 3, 1)
    peaks.append((peak_bytes() / 2**20, len(table.steps)))
print(json.dumps(peaks))
"""


def test_ten_times_the_shards_take_the_same_memory(tmp_path):
    films, made = [square(seed, 200) for seed in range(3)], []
    for name, count in (("once", 6), ("ten", 60)):
        clips = [Clip(f"{k:03}-0-200", f"{k:03}", 0, 200, "train", "", {}, [], [], "", "", "") for k in range(count)]
        (plan,) = plan_shards(clips, TASK, most=count)
        shard = write_shard(tmp_path / name, plan, TASK, lambda clip: films[int(clip.source) % 3], quality=20)
        write_index(tmp_path / name, TASK, [shard])
        made.append(str(tmp_path / name))
    run = subprocess.run([sys.executable, "-c", READ, *made], capture_output=True, text=True, check=True)
    (before, windows), (after, more) = json.loads(run.stdout)
    assert more == 10 * windows and frame_bytes(Path(made[1])) > 140e6
    assert after - before < 15, (before, after)
