"""Datasets on disk: what goes in comes out, for us and for Minari, and damage is named."""

import json
from dataclasses import replace

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest

from procosm.world_model.data.episodes import Episode, load_episodes, load_task, write_dataset
from procosm.world_model.data.task import REWARD, Signal, View, logged_signals
from procosm.world_model.errors import DatasetError
from tests.conftest import simulated_task

TASK = replace(simulated_task("Reacher-v5", 32, 3), action_low=(-1.0, -2.0), action_high=(1.0, 2.0))
SPEC = gym.spec("Reacher-v5").to_json()


def episode(seed: int, steps: int, terminated: bool, kind: str) -> tuple[Episode, np.ndarray]:
    rng = np.random.default_rng(seed)
    return Episode(
        frames=rng.integers(0, 256, (steps + 1, 32, 32, 3), dtype=np.uint8),
        actions=rng.uniform(-1, 1, (steps, 2)).astype(np.float32),
        terminated=terminated,
        kind=kind,
        signals={
            "state": rng.standard_normal((steps + 1, 3)).astype(np.float32),
            "reward": rng.standard_normal(steps).astype(np.float32),
        },
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
        for name in ("frames", "actions"):
            np.testing.assert_array_equal(getattr(stored, name), getattr(written, name), strict=True)
        assert set(stored.signals) == set(written.signals)
        for name in written.signals:
            np.testing.assert_array_equal(stored.signals[name], written.signals[name], strict=True)
        assert (stored.terminated, stored.kind) == (written.terminated, written.kind)
    assert json.loads((folder / "provenance.json").read_text()) == {"seed": 3}


def test_minari_reads_the_same(folder):
    dataset = minari.MinariDataset(folder)
    assert dataset.total_episodes == 3 and dataset.total_steps == 20
    assert dataset.action_space.high.tolist() == [1.0, 2.0]
    state = dataset.observation_space["state"]
    assert not state.is_bounded("below") and not state.is_bounded("above") and state.dtype == np.float32
    for stored, (written, physics) in zip(dataset.iterate_episodes(), PAIRS, strict=True):
        np.testing.assert_array_equal(stored.observations["pixels"], written.frames)
        np.testing.assert_array_equal(stored.observations["state"], written.signals["state"])
        np.testing.assert_array_equal(stored.infos["physics"], physics)
        np.testing.assert_array_equal(stored.rewards, written.signals["reward"])
        assert stored.terminations[-1] == written.terminated and stored.truncations[-1] != written.terminated
        assert not stored.terminations[:-1].any() and not stored.truncations[:-1].any()


SIGNALS = logged_signals(3) | {"proprio": Signal((2, 2), "frame"), "force": Signal((3,), "step")}
SUBSETS = [
    (), ("reward",), ("state",), ("termination",), ("state", "reward"), ("reward", "termination"), ("proprio", "force"),
    tuple(SIGNALS),
]  # fmt: skip


@pytest.mark.parametrize("names", SUBSETS, ids=lambda names: "-".join(names) or "none")
def test_any_signals_are_written_and_read(tmp_path, names):
    """Of robots, without physics; for Minari a log without rewards has zeros, which nobody here takes for rewards."""
    rng = np.random.default_rng(1)
    task = replace(TASK, signals={name: SIGNALS[name] for name in names}, twin=None)
    written = [
        replace(
            e,
            terminated=e.terminated and "termination" in names,
            text=f"push {i}" if i else "",
            signals={
                name: rng.standard_normal((len(e.actions) + (signal.per == "frame"), *signal.shape)).astype(np.float32)
                for name, signal in task.signals.items()
                if name != "termination"
            },
        )
        for i, (e, _) in enumerate(PAIRS)
    ]
    write_dataset(tmp_path / "data", task, ((e, None) for e in written), {}, SPEC)
    assert load_task(tmp_path / "data") == task
    for stored, e in zip(load_episodes(tmp_path / "data"), written, strict=True):
        assert set(stored.signals) == set(e.signals) == set(names) - {"termination"}
        assert (stored.text, stored.terminated) == (e.text, e.terminated)
        for name in e.signals:
            np.testing.assert_array_equal(stored.signals[name], e.signals[name], strict=True)
    for stored, e in zip(minari.MinariDataset(tmp_path / "data").iterate_episodes(), written, strict=True):
        np.testing.assert_array_equal(stored.observations["pixels"], e.frames)
        assert set(stored.observations) == {"pixels", *(name for name in names if SIGNALS[name].per == "frame")}
        np.testing.assert_array_equal(stored.rewards, e.signals.get("reward", np.zeros(len(e.actions))))


@pytest.mark.parametrize(
    "change",
    [
        {"signals": {}},
        {"signals": PAIRS[0][0].signals | {"force": np.zeros(7, np.float32)}},
        {"signals": PAIRS[0][0].signals | {"reward": np.zeros(8, np.float32)}},
        {"signals": PAIRS[0][0].signals | {"reward": np.zeros(7)}},
    ],
)
def test_episodes_with_other_signals_than_their_task_are_refused(tmp_path, change):
    with pytest.raises(DatasetError, match="episode 0 has the signals"):
        write_dataset(tmp_path / "data", TASK, [(replace(PAIRS[0][0], **change), None)], {}, SPEC)
    without = replace(TASK, signals={"state": SIGNALS["state"], "reward": REWARD})
    with pytest.raises(DatasetError, match="logs no termination"):
        write_dataset(tmp_path / "data", without, PAIRS[:1], {}, SPEC)


def test_views_of_a_frame_are_written_side_by_side(tmp_path):
    task = replace(TASK, views=(View("front", 32, 24), View("wrist", 32, 8)), twin=None)
    write_dataset(tmp_path / "data", task, PAIRS, {}, SPEC)
    assert load_task(tmp_path / "data") == task
    front, wrist = task.split(load_episodes(tmp_path / "data")[0].frames).values()
    np.testing.assert_array_equal(np.concatenate((front, wrist), axis=2), PAIRS[0][0].frames)


def test_a_dataset_from_before_views_and_signals_opens_as_it_did(folder):
    """task.json is all that changed: the arrays lie where they lay."""
    older = {
        "id": "Reacher-v5", "frame_size": 32, "action_repeat": 1, "max_episode_steps": 1000, "dt_s": 0.04,
        "action_low": [-1.0, -2.0], "action_high": [1.0, 2.0], "state_size": 3, "camera": TASK.twin.cameras["main"],
        "renderer": "egl", "version": 1,
    }  # fmt: skip
    (folder / "task.json").write_text(json.dumps(older))
    assert load_task(folder) == TASK
    for stored, (written, _) in zip(load_episodes(folder), PAIRS, strict=True):
        for name in ("state", "reward"):
            np.testing.assert_array_equal(stored.signals[name], written.signals[name], strict=True)
    with h5py.File(folder / "main_data.hdf5") as file:
        assert set(file["episode_0"]) == {
            "observations", "actions", "rewards", "terminations", "truncations", "infos",
        }  # fmt: skip
        assert set(file["episode_0/observations"]) == {"pixels", "state"} and set(file["episode_0/infos"]) == {
            "physics"
        }


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
    "change",
    [
        {"views": [{"name": "main", "height": 64, "width": 32}]},
        {"views": [{"name": "main", "height": 32, "width": 64}]},
        {"signals": {"state": {"shape": [4], "per": "frame"}}},
        {"signals": {"proprio": {"shape": [3], "per": "frame"}}},
        {"action_low": (-1.0,), "action_high": (1.0,)},
    ],
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
        write_dataset(folder, TASK, iter(PAIRS), {}, SPEC)
    assert len(load_episodes(folder)) == 3
