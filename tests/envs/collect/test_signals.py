"""What is logged beside pixels and actions is chosen, changes nothing else, and nobody makes up what was not."""

import json
import shutil

import h5py
import minari
import numpy as np
import pytest

from procosm.envs.collect.collect import SIGNALS, CollectConfig, collect, plan
from procosm.envs.collect.segments import read_job
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.data.episodes import load_episodes, load_task
from procosm.world_model.errors import DatasetError
from procosm.world_model.settings import SettingsError

SETTINGS = {"steps": 100, "processes": 1, "frame_size": 32, "constant": 0.2}


@pytest.fixture(scope="module")
def logs(tmp_path_factory):
    """The same 100 steps of InvertedPendulum, logged in each way."""
    out = tmp_path_factory.mktemp("signals")
    return {name: collect(CollectConfig("InvertedPendulum", out / name, signals=name, **SETTINGS)) for name in SIGNALS}


@pytest.mark.parametrize("name", SIGNALS)
def test_only_what_was_asked_for_is_logged(logs, name):
    asked = set(SIGNALS[name]) - {"success"}  # of which this task tells nothing
    assert set(load_task(logs[name]).signals) == asked
    episodes, whole = load_episodes(logs[name]), load_episodes(logs["all"])
    assert any(episode.terminated for episode in whole) and any(episode.wide for episode in whole)
    for stored, full in zip(episodes, whole, strict=True):
        assert set(stored.signals) == asked - {"termination"}
        assert (stored.kind, stored.wide) == (full.kind, full.wide)
        assert stored.terminated == (full.terminated and "termination" in SIGNALS[name])
        np.testing.assert_array_equal(stored.frames, full.frames)
        np.testing.assert_array_equal(stored.actions, full.actions)
        for signal, values in stored.signals.items():
            np.testing.assert_array_equal(values, full.signals[signal])
    with h5py.File(logs[name] / "main_data.hdf5") as file:  # a physics state is the true state under another name
        held = [path for path in _paths(file["episode_0"]) if "state" in path or "physics" in path]
    assert bool(held) == (name == "all")


def _paths(group):
    found = []
    group.visit(found.append)
    return found


@pytest.mark.parametrize("name", SIGNALS)
def test_minari_makes_the_environment_again_that_shows_what_was_logged(logs, name):
    dataset = minari.MinariDataset(logs[name])
    env = dataset.recover_environment()
    shown = env.observation_space if name == "all" else {"pixels": env.observation_space}
    assert dict(dataset.observation_space) == dict(shown)
    env.close()


def test_the_tasks_own_reset_alone_gives_every_episode(tmp_path):
    config = CollectConfig("InvertedPendulum", tmp_path, **{**SETTINGS, "wide": 0.0, "constant": 0.0})
    episodes = load_episodes(collect(config))
    assert {episode.kind for episode in episodes} == {"train", "holdout"} and not any(e.wide for e in episodes)
    begun = np.stack([episode.signals["state"][0] for episode in episodes])
    assert np.abs(begun).max() <= 0.01, "InvertedPendulum-v5 resets all four numbers within a hundredth"


def test_a_collection_with_other_signals_is_not_gone_on_with(logs):
    out = logs["reward"].parent
    for other in ({"signals": "all"}, {"signals": "none"}, {"constant": 0.1}):
        with pytest.raises(DatasetError, match="other settings"):
            collect(CollectConfig("InvertedPendulum", out, **{**SETTINGS, "signals": "reward", **other}))
    assert collect(CollectConfig("InvertedPendulum", out, signals="reward", **SETTINGS)) == out / "data"


def test_a_collection_by_an_earlier_version_is_the_same_collection(logs, tmp_path):
    """Its provenance and its dataset tell of a task with one square view and everything logged, in the older form."""
    data = shutil.copytree(logs["all"], tmp_path / "data")
    task = json.loads((data / "task.json").read_text())
    twin, signals = task.pop("twin"), task.pop("signals")
    older = task | {
        "frame_size": task.pop("views")[0]["height"],
        "state_size": signals["state"]["shape"][0],
        "camera": twin["cameras"]["main"],
        "renderer": twin["renderer"],
        "version": twin["version"],
    }
    origin = json.loads((data / "provenance.json").read_text())
    origin["job"]["task"] = older
    (data / "task.json").write_text(json.dumps(older))
    (data / "provenance.json").write_text(json.dumps(origin))
    before = (data / "main_data.hdf5").read_bytes()
    config = CollectConfig("InvertedPendulum", tmp_path, **SETTINGS)
    assert collect(config) == data and (data / "main_data.hdf5").read_bytes() == before
    parts = tmp_path / "other" / "data.parts"
    parts.mkdir(parents=True)
    (parts / "job.json").write_text(json.dumps(origin["job"]))
    assert read_job(parts).content == plan(config).content


def test_a_log_without_states_knows_its_twin(logs):
    task = load_task(logs["none"])
    env = MujocoEnv.from_task(task, observation=("pixels", "state"))
    observed, info = env.reset(seed=0)
    assert observed["state"].shape == (4,) and task.state_size == 0 and task.twin.state_size == 4
    assert np.array_equal(info["state"], observed["state"])


@pytest.mark.parametrize("wrong", [{"signals": "pixels"}, {"constant": 0.5}, {"constant": -0.1}])
def test_choices_that_are_none_are_refused(tmp_path, wrong):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        CollectConfig("InvertedPendulum", tmp_path, **wrong)
