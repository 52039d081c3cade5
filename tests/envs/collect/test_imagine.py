"""Dreams become datasets: what is written is what the environment showed, and other formats take it."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from procosm.envs.collect import imagine as imagine_module
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.collect.imagine import ImagineConfig, imagine
from procosm.envs.collect.policies import Share
from procosm.envs.dreams.weights import SHIPPED
from procosm.envs.dreams.world import WorldModelEnv
from procosm.envs.play.policy import find_policy
from procosm.world_model import checkpoint
from procosm.world_model.conditioning.text import TextConfig
from procosm.world_model.data.episodes import Episode, load_episodes, load_task, write_dataset
from procosm.world_model.data.ingest import ExportConfig, export
from procosm.world_model.data.logs import LogsConfig, open_logs, read_log
from procosm.world_model.errors import ProcosmError, TaskError
from tests.conftest import restless_model, simulated_task

MODEL = SHIPPED / "InvertedPendulum"


def dreamt(out: Path, **changes):
    return imagine(ImagineConfig(world_model=MODEL, out=out, episodes=4, steps=9, holdout=0.25, seed=3, **changes))


@pytest.fixture(scope="module")
def dreams(tmp_path_factory) -> Path:
    return dreamt(tmp_path_factory.mktemp("dreams"))


def test_dreams_say_that_they_are_dreams(dreams):
    task, episodes = load_task(dreams), load_episodes(dreams)
    assert task.twin is None and set(task.signals) == {"reward", "termination", "estimated_state"}
    assert [episode.kind for episode in episodes].count("holdout") == 1
    assert len({episode.frames[0].tobytes() for episode in episodes}) > 1
    assert all(0 < len(episode.actions) <= 9 for episode in episodes)
    assert json.loads((dreams / "provenance.json").read_text())["imagined"] is True


def test_the_same_seed_dreams_the_same(dreams, tmp_path):
    for ours, theirs in zip(load_episodes(dreams), load_episodes(dreamt(tmp_path)), strict=True):
        np.testing.assert_array_equal(ours.frames, theirs.frames)
        np.testing.assert_array_equal(ours.actions, theirs.actions)


def test_logged_actions_are_dreamed_again_as_the_environment_dreams_them(tmp_path):
    data = collect(CollectConfig(env="InvertedPendulum", out=tmp_path / "run", steps=200, processes=1, constant=0))
    logged = [episode for episode in load_episodes(data) if episode.kind == "holdout"]
    found = load_episodes(dreamt(tmp_path / "dreams", actions=data))
    env = WorldModelEnv(MODEL, max_episode_steps=9)
    assert found and len(found) == min(4, len(logged))
    for index, (dream, true) in enumerate(zip(found, logged, strict=False)):
        seen = env.dreams.model.dynamics.context if true.wide else 1
        given = {"frames": true.frames[:seen], "actions": true.actions[: seen - 1]}
        frame, info = env.reset(seed=3 + index, options=given)
        np.testing.assert_array_equal(dream.frames[0], frame)
        np.testing.assert_array_equal(dream.actions, true.actions[seen - 1 :][: len(dream.actions)])
        for step, action in enumerate(dream.actions):
            frame, reward, *_, info = env.step(action)
            np.testing.assert_array_equal(dream.frames[step + 1], frame)
            assert dream.signals["reward"][step] == np.float32(reward)
            np.testing.assert_array_equal(dream.signals["estimated_state"][step + 1], info["state"])
    env.close()


def test_a_policy_acts_in_its_dream(tmp_path):
    policy = f"policy:{find_policy(MODEL)}"
    found = load_episodes(imagine(ImagineConfig(MODEL, tmp_path / "held", episodes=2, steps=80, policy=policy)))
    fallen = load_episodes(imagine(ImagineConfig(MODEL, tmp_path / "random", episodes=2, steps=80, policy="random")))
    assert all(len(episode.actions) == 80 and not episode.terminated for episode in found)
    assert all(len(episode.actions) < 80 and episode.terminated for episode in fallen)


@pytest.mark.parametrize("shape", [(40, 40, 9), (9, 40, 40)], ids=["channels last", "channels first"])
def test_a_policy_from_pixels_sees_the_last_frames_and_none_of_another_dream(linear_world, monkeypatch, shape):
    seen = []
    policy = SimpleNamespace(
        observation_space=SimpleNamespace(shape=shape),
        action_space=SimpleNamespace(shape=(1,)),
        predict=lambda shown, deterministic: (np.zeros(1, np.float32), seen.append(shown)),
    )
    monkeypatch.setattr(imagine_module, "load_policy", lambda *_: policy)
    actor = imagine_module._Actor(Share("policy", 1.0, "nobody.zip"), linear_world, False)
    frames = [np.full((40, 40, 3), grey, np.uint8) for grey in (10, 20, 30, 40)]
    for dream in (frames, frames[:1]):
        actor.begin(np.random.default_rng(0))
        for frame in dream:
            assert actor.act(frame, frame).shape == (1,)
    told = [[int(part[0, 0, 0]) for part in np.split(shown, 3, axis=2)] for shown in seen]
    assert told == [[0, 0, 10], [0, 10, 20], [10, 20, 30], [20, 30, 40], [0, 0, 10]]


@pytest.mark.parametrize("kind", ["lerobot", "minari"])
def test_dreams_are_exported_like_any_log(dreams, tmp_path, kind):
    out = export(ExportConfig(data=dreams, out=tmp_path / "out", to=kind))
    if kind == "minari":
        (out / "task.json").unlink()
    task = load_task(dreams)
    logs = open_logs(LogsConfig(data=out, fps=1 / task.dt_s))
    for name, dream in zip(logs.names, load_episodes(dreams), strict=True):
        there = read_log(logs, name).episode
        np.testing.assert_array_equal(there.actions, dream.actions)
        assert there.terminated == dream.terminated
        for signal, values in dream.signals.items():
            np.testing.assert_array_equal(there.signals[signal], values)


def test_what_cannot_be_dreamed_is_refused(dreams, tmp_path):
    without = imagine(ImagineConfig(MODEL, tmp_path / "without", episodes=1, steps=2, holdout=0))
    with pytest.raises(ProcosmError, match="no held-out episode"):
        dreamt(tmp_path / "none", actions=without)
    assert not (tmp_path / "none" / "data").exists()
    with pytest.raises(TaskError, match="there is no file"):
        ImagineConfig(MODEL, tmp_path, policy="policy:nobody.zip")
    with pytest.raises(ProcosmError, match="a script sees the true state"):
        ImagineConfig(MODEL, tmp_path, policy="expert:0.5,noise")
    with pytest.raises(ProcosmError, match="there is a dataset"):
        dreamt(dreams.parent)


def test_dreams_are_told_what_is_written_beside_them(tmp_path):
    task, rng = simulated_task("InvertedPendulum-v5", 32, 4), np.random.default_rng(0)
    model = restless_model(task, change=lambda config: dataclasses.replace(config, text=TextConfig(tokens=4, size=16)))
    asked = {"texts": ("to the left", "to the right"), "start_texts": torch.arange(9) % 2}
    folder = checkpoint.save(tmp_path / "world_model", dataclasses.replace(model, **asked))
    signals = {"state": np.zeros((5, 4), np.float32), "reward": np.zeros(4, np.float32)}
    frames, actions = rng.integers(0, 256, (5, 32, 32, 3), np.uint8), rng.uniform(-1, 1, (4, 1)).astype(np.float32)
    logged = Episode(frames, actions, False, "holdout", signals=signals, text="to the left")
    write_dataset(tmp_path / "data", task, [(logged, None)], {}, "{}")

    (again,) = load_episodes(imagine(ImagineConfig(folder, tmp_path / "again", actions=tmp_path / "data")))
    env, states = WorldModelEnv(folder), {}
    for text in ("to the left", ""):
        env.reset(seed=0, options={"frames": frames[:1], "instruction": text})
        states[text] = [env.step(action)[4]["state"] for action in actions]
    told = states["to the left"][: len(again.actions)]
    np.testing.assert_array_equal(again.signals["estimated_state"][1:], told)
    assert again.text == "to the left" and not np.array_equal(told, states[""][: len(told)])
    acted = load_episodes(imagine(ImagineConfig(folder, tmp_path / "acted", episodes=8, steps=2)))
    assert {episode.text for episode in acted} == {"to the left", "to the right"}
