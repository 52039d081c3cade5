"""Datasets joined: the same episodes in order, and Minari opens what came of it."""

import json
from pathlib import Path

import minari
import numpy as np
import pytest

from procosm.world_model.data.episodes import (
    acting_policies,
    load_episodes,
    load_task,
    newest_frames,
    read_counts,
    write_dataset,
)
from procosm.world_model.data.join import join
from procosm.world_model.errors import DatasetError, ProcosmError
from tests.agents.conftest import linear_episode
from tests.conftest import simulated_task


def dataset(folder: Path, lengths: tuple[int, ...], acted: str, size: int = 40) -> Path:
    task = simulated_task("Linear-v0", size, 2)
    kinds = ("train", "holdout")
    made = [
        (linear_episode(seed, length, kinds[seed % 2]), np.full((length + 1, 3), float(seed)))
        for seed, length in enumerate(lengths)
    ]
    write_dataset(folder, task, made, {"job": {"policies": {f"{acted}.zip": acted}}}, None)
    return folder


@pytest.fixture
def parts(tmp_path) -> list[Path]:
    return [dataset(tmp_path / "old", (5, 3, 4), "aa"), dataset(tmp_path / "new", (6, 2), "bb")]


def test_the_joined_episodes_are_those_of_the_parts_in_order(parts, tmp_path):
    out = join(parts, tmp_path / "all")
    expected = [episode for part in parts for episode in load_episodes(part)]
    found = load_episodes(out)
    assert load_task(out) == load_task(parts[0]) and len(found) == len(expected) == 5
    for one, other in zip(found, expected, strict=True):
        assert (one.kind, one.wide, one.terminated) == (other.kind, other.wide, other.terminated)
        np.testing.assert_array_equal(one.frames, other.frames)
        np.testing.assert_array_equal(one.actions, other.actions)
        for name in ("state", "reward"):
            np.testing.assert_array_equal(one.signals[name], other.signals[name])
    assert acting_policies(out) == {"aa.zip": "aa", "bb.zip": "bb"}


def test_minari_counts_and_reads_the_joined_steps(parts, tmp_path):
    data = minari.MinariDataset(join(parts, tmp_path / "all"))
    assert (data.total_episodes, data.total_steps) == (5, 20)
    assert [len(episode.actions) for episode in data.iterate_episodes()] == [5, 3, 4, 6, 2]
    assert data[3].infos["physics"][0, 0] == 0.0


def test_frames_of_the_newest_episodes_are_counted_by_kind(parts, tmp_path):
    out = join(parts, tmp_path / "all")
    assert newest_frames(out, 2) == {"train": 7, "holdout": 3, "constant": 0, "test": 0}
    assert sum(newest_frames(out, 0).values()) == 0
    assert read_counts(out)["total_steps"] == 20
    with pytest.raises(DatasetError, match="holds 5 episodes"):
        newest_frames(out, 6)


def test_parts_of_other_tasks_or_in_each_other_are_refused(parts, tmp_path):
    values = json.loads((parts[1] / "task.json").read_text())
    (parts[1] / "task.json").write_text(json.dumps(values | {"dt_s": 0.5}))
    with pytest.raises(DatasetError, match=r"task\.json differs"):
        join(parts, tmp_path / "all")
    with pytest.raises(ProcosmError, match="lie one in the other"):
        join(parts[:1], parts[0] / "all")
    assert not (tmp_path / "all").exists()
