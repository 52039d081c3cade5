"""Datasets on disk: what goes in comes out, for us and for Minari, and damage is named."""

import json
from dataclasses import replace

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest

from procosm.world_model.data.episodes import Episode, Task, load_episodes, load_task, write_dataset
from procosm.world_model.errors import DatasetError

TASK = Task("Reacher-v5", 32, 1, 50, 0.02, (-1.0, -2.0), (1.0, 2.0), 3, {"lookat": [0.0, 1.5, 0.0]}, "egl", 1)
SPEC = gym.spec("Reacher-v5").to_json()


def episode(seed: int, steps: int, terminated: bool, kind: str) -> tuple[Episode, np.ndarray]:
    rng = np.random.default_rng(seed)
    return Episode(
        frames=rng.integers(0, 256, (steps + 1, 32, 32, 3), dtype=np.uint8),
        states=rng.standard_normal((steps + 1, 3)).astype(np.float32),
        actions=rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        rewards=rng.standard_normal(steps).astype(np.float32),
        terminated=terminated,
        kind=kind,
    ), rng.standard_normal((steps + 1, 5))


PAIRS = [episode(0, 7, True, "train"), episode(1, 1, False, "constant"), episode(2, 12, False, "holdout")]


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "data"
    write_dataset(path, TASK, iter(PAIRS), {"seed": 3}, SPEC)
    return path


def test_what_is_written_is_read(folder):
    assert load_task(folder) == TASK
    read = load_episodes(folder)
    assert len(read) == 3
    for stored, (written, _) in zip(read, PAIRS, strict=True):
        for name in ("frames", "states", "actions", "rewards"):
            np.testing.assert_array_equal(getattr(stored, name), getattr(written, name), strict=True)
        assert (stored.terminated, stored.kind) == (written.terminated, written.kind)
    assert json.loads((folder / "provenance.json").read_text()) == {"seed": 3}


def test_minari_reads_the_same(folder):
    dataset = minari.MinariDataset(folder)
    assert dataset.total_episodes == 3 and dataset.total_steps == 20
    assert dataset.action_space.high.tolist() == [1.0, 2.0]
    for stored, (written, physics) in zip(dataset.iterate_episodes(), PAIRS, strict=True):
        np.testing.assert_array_equal(stored.observations["pixels"], written.frames)
        np.testing.assert_array_equal(stored.observations["state"], written.states)
        np.testing.assert_array_equal(stored.infos["physics"], physics)
        np.testing.assert_array_equal(stored.rewards, written.rewards)
        assert stored.terminations[-1] == written.terminated and stored.truncations[-1] != written.terminated
        assert not stored.terminations[:-1].any() and not stored.truncations[:-1].any()


def test_no_dataset_is_said_to_be_none(tmp_path):
    for load in (load_task, load_episodes):
        with pytest.raises(DatasetError, match="no dataset"):
            load(tmp_path / "nowhere")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_a_truncated_file_is_named(folder, share):
    path = folder / "main_data.hdf5"
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(DatasetError, match=r"main_data\.hdf5.*collect"):
        load_episodes(folder)


def test_a_missing_array_or_episode_is_named(folder):
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        del file["episode_1/rewards"]
    with pytest.raises(DatasetError, match="rewards"):
        load_episodes(folder)
    with h5py.File(folder / "main_data.hdf5", "a") as file:
        del file["episode_1"]
    with pytest.raises(DatasetError, match="2 of 3"):
        load_episodes(folder)


@pytest.mark.parametrize(
    "change", [{"frame_size": 64}, {"state_size": 4}, {"action_low": (-1.0,), "action_high": (1.0,)}]
)
def test_episodes_of_another_task_are_refused(folder, change):
    values = {**json.loads((folder / "task.json").read_text()), **change}
    (folder / "task.json").write_text(json.dumps(values))
    with pytest.raises(DatasetError, match="episode 0"):
        load_episodes(folder)


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "Reacher-v5"}'])
def test_a_damaged_task_is_named(folder, text):
    (folder / "task.json").write_text(text)
    with pytest.raises(DatasetError, match=r"task\.json"):
        load_task(folder)


def test_an_episode_that_cannot_be_made_leaves_nothing(tmp_path):
    def failing():
        yield PAIRS[0]
        raise OSError(28, "No space left on device")

    with pytest.raises(DatasetError, match="free some space"):
        write_dataset(tmp_path / "data", TASK, failing(), {}, SPEC)
    assert list(tmp_path.iterdir()) == []


def test_a_dataset_is_never_written_over(folder):
    with pytest.raises(DatasetError):
        write_dataset(folder, replace(TASK, frame_size=32), iter(PAIRS), {}, SPEC)
    assert len(load_episodes(folder)) == 3
