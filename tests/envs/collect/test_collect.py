"""Collecting: exactly the steps asked for, the same data whatever happens, and MuJoCo's own transitions in them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import gymnasium as gym
import h5py
import minari
import numpy as np
import pytest
from stable_baselines3 import PPO

from procosm.agents.road import collect_stage
from procosm.envs.collect.collect import CollectConfig, check_outs, collect, plan
from procosm.envs.collect.policy_file import save_learner
from procosm.envs.collect.segments import CONSTANT_STEPS, read_part
from procosm.envs.collect.workers import run_parts
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.probe import probe
from procosm.envs.truth.starts import wide_start
from procosm.world_model.data.episodes import load_episodes, load_task
from procosm.world_model.errors import DatasetError, ProcosmError

SMALL = {"steps": 1200, "frame_size": 32, "processes": 1, "holdout": 0.05, "wide": 0.5}
SCRIPT = (
    "import sys; from pathlib import Path; from procosm.envs.collect.collect import CollectConfig, collect;"
    "collect(CollectConfig(sys.argv[1], Path(sys.argv[2]), steps=int(sys.argv[3]), frame_size=32,"
    "processes=2, holdout=0.05, wide=0.5))"
)


def content(folder: Path) -> dict[str, bytes]:
    """Every array and every episode's attributes; the file's own bytes hold HDF5's unused memory besides."""
    found: dict[str, bytes] = {}

    def visit(name: str, item: h5py.Group | h5py.Dataset) -> None:
        found[name] = (
            item[()].tobytes() if isinstance(item, h5py.Dataset) else repr(sorted(item.attrs.items())).encode()
        )

    with h5py.File(folder / "main_data.hdf5", "r") as file:
        file.visititems(visit)
    return found


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory) -> Path:
    return collect(CollectConfig("InvertedPendulum", tmp_path_factory.mktemp("run"), **SMALL))


def test_steps_are_counted_exactly_held_out_and_constant_ones_included(pendulum):
    episodes = load_episodes(pendulum)
    steps = {kind: sum(len(e.actions) for e in episodes if e.kind == kind) for kind in ("train", "holdout", "constant")}
    assert steps == {"train": 1080, "holdout": 60, "constant": 60}
    assert minari.MinariDataset(pendulum).total_steps == 1200
    assert not (pendulum.parent / "data.parts").exists()


def test_constant_episodes_are_short_and_constant(pendulum):
    constant = [episode for episode in load_episodes(pendulum) if episode.kind == "constant"]
    assert all(len(episode.actions) <= CONSTANT_STEPS for episode in constant)
    assert all((episode.actions == episode.actions[0]).all() for episode in constant)
    assert any(not episode.actions.any() for episode in constant)
    assert len({float(episode.actions[0, 0]) for episode in constant}) > 3


def test_every_transition_is_mujocos_and_every_frame_its_states(pendulum):
    task = load_task(pendulum)
    env = MujocoEnv.from_task(task, observation="pixels")
    env.reset(seed=0)
    dataset = minari.MinariDataset(pendulum)
    for index in range(0, dataset.total_episodes, 17):
        episode = dataset[index]
        for step, action in enumerate(episode.actions):
            frame, info = env.reset(options={"physics": episode.infos["physics"][step]})
            np.testing.assert_array_equal(frame, episode.observations["pixels"][step])
            np.testing.assert_array_equal(info["state"], episode.observations["state"][step])
            _, reward, terminated, _, after = env.step(action)
            np.testing.assert_allclose(after["state"], episode.observations["state"][step + 1], atol=1e-5)
            assert reward == pytest.approx(episode.rewards[step]) and terminated == episode.terminations[step]


def test_starts_are_wider_than_the_tasks_own(pendulum):
    starts = np.stack([episode.signals["state"][0] for episode in load_episodes(pendulum)])
    # The task's own reset stays within 0.01; the rail is 1 m to each side.
    assert 0.3 < (np.abs(starts[:, 0]) > 0.02).mean() < 0.7
    assert np.abs(starts[:, 1]).max() > 0.1
    # What does not hasten the end goes all the way: the cart starts as often on the outer half of its rail as inside.
    cart = np.abs(starts[np.abs(starts[:, 0]) > 0.02, 0])
    assert 0.3 < (cart > 0.5).mean() < 0.7 and cart.max() > 0.9


def test_held_out_episodes_run_on_where_training_ones_are_cut(tmp_path):
    settings = SMALL | {"steps": 1000, "holdout": 0.4, "wide": 0.0}
    assert plan(CollectConfig("InvertedPendulum", tmp_path, **settings)).segment == 40
    episodes = load_episodes(collect(CollectConfig("InvertedPendulum", tmp_path, segment=16, **settings)))
    longest = {kind: max(len(e.actions) for e in episodes if e.kind == kind) for kind in ("train", "holdout")}
    assert longest["train"] == 16 < longest["holdout"] <= 64


def test_two_processes_collect_the_same_as_one(pendulum, tmp_path):
    again = collect(CollectConfig("InvertedPendulum", tmp_path, **{**SMALL, "processes": 2}))
    assert content(again) == content(pendulum)
    other = collect(CollectConfig("InvertedPendulum", tmp_path / "other", **SMALL, seed=1))
    assert content(other) != content(pendulum)


def test_a_killed_collection_goes_on_and_ends_the_same(pendulum, tmp_path):
    command = [sys.executable, "-c", SCRIPT, "InvertedPendulum", str(tmp_path), "1200"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    parts, deadline = tmp_path / "data.parts", time.monotonic() + 120
    while not list(parts.glob("*.npz")) and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert list(parts.glob("*.npz")) and not (tmp_path / "data").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert content(tmp_path / "data") == content(pendulum)
    assert not parts.exists()


def test_a_finished_collection_is_left_alone(pendulum):
    before = (pendulum / "main_data.hdf5").stat().st_mtime_ns
    assert collect(CollectConfig("InvertedPendulum", pendulum.parent, **SMALL)) == pendulum
    assert (pendulum / "main_data.hdf5").stat().st_mtime_ns == before
    with pytest.raises(DatasetError, match="seed: 0 there, 5 here"):
        collect(CollectConfig("InvertedPendulum", pendulum.parent, **SMALL, seed=5))


def test_an_unfinished_collection_of_other_settings_is_not_mixed_in(tmp_path):
    (tmp_path / "data.parts").mkdir()
    (tmp_path / "data.parts" / "job.json").write_text(plan(CollectConfig("Reacher", tmp_path, **SMALL)).to_json())
    (tmp_path / "data.parts" / "train-00000.npz").write_bytes(b"")
    with pytest.raises(DatasetError, match="unfinished"):
        collect(CollectConfig("InvertedPendulum", tmp_path, **SMALL))


def test_a_part_names_its_job_and_counts_in_no_other(pendulum, tmp_path):
    config = CollectConfig("InvertedPendulum", tmp_path / "run", **SMALL)
    job, stale = plan(config), plan(replace(config, seed=7))
    parts, elsewhere = tmp_path / "run" / "data.parts", tmp_path / "elsewhere"
    for folder, owner in ((parts, job), (elsewhere, stale)):
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(owner.to_json())
    first = next(part for part in job.parts if part.kind == "train")
    run_parts(elsewhere, stale, [first], 1)
    shutil.copy(elsewhere / f"{first.name}.npz", parts)  # as a worker of a killed run could have left it
    with pytest.raises(DatasetError, match="another collection"):
        list(read_part(parts, job, first))
    with pytest.raises(DatasetError, match="another collection"):
        run_parts(parts, stale, [first], 1)
    assert content(collect(config)) == content(pendulum)


def test_a_damaged_part_is_named(tmp_path):
    config = CollectConfig("InvertedPendulum", tmp_path, **SMALL)
    job = plan(config)
    (tmp_path / "data.parts").mkdir()
    (tmp_path / "data.parts" / "job.json").write_text(job.to_json())
    (tmp_path / "data.parts" / "train-00000.npz").write_bytes(b"PK half a file")
    with pytest.raises(DatasetError, match="train-00000"):
        collect(config)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_disk_that_takes_no_more_is_named_and_nothing_is_lost(processes, tmp_path):
    # The operating system refuses every file beyond 2 MB, as a full disk would: parts of 500 frames are larger.
    script = (
        "import resource, sys; from pathlib import Path; resource.setrlimit(resource.RLIMIT_FSIZE, (2_000_000,) * 2)\n"
        "from procosm.envs.collect.collect import CollectConfig, collect\n"
        "from procosm.world_model.errors import DatasetError\n"
        f"config = CollectConfig('Reacher', Path(sys.argv[1]), steps=1000, processes={processes})\n"
        "try: collect(config)\n"
        "except DatasetError as error: print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "cannot write" in run.stdout and "MB" in run.stdout and "same command again" in run.stdout
    assert not (tmp_path / "data").exists()
    kept = sorted(path.name for path in (tmp_path / "data.parts").glob("*.npz"))
    assert kept == ["constant-00000.npz", "holdout-00000.npz"]
    assert not list((tmp_path / "data.parts").glob("*.tmp"))


def test_a_disk_too_small_is_named_before_anything_is_collected(tmp_path):
    with pytest.raises(DatasetError, match="MB free"):
        collect(CollectConfig("InvertedPendulum", tmp_path / "run", steps=100_000_000, processes=1))
    assert not list(tmp_path.iterdir())


def test_saved_policies_collect_whole_episodes_and_their_share_of_the_steps(tmp_path):
    env = gym.make("Procosm/HalfCheetahTruth-v0", observation="state", max_episode_steps=80)
    save_learner(PPO("MlpPolicy", env, seed=0, device="cpu"), tmp_path / "policy.zip")
    mixture = f"policy:{tmp_path / 'policy.zip'}:0.4,noise:0.42,random:0.18"
    config = CollectConfig("HalfCheetah", tmp_path, steps=3000, policy=mixture, frame_size=32)
    job = plan(config)
    assert max(part.steps for part in job.parts) == 1000 and job.segment == 100
    assert len(job.policies) == 1 and json.loads(job.to_json())["policies"] == job.policies
    steps: Counter[tuple[str, tuple[int, ...]]] = Counter()
    for part in job.parts:
        steps[part.kind, part.behaviours] += part.steps
    noise, saved = (1, 2), (0,)
    assert steps == {("constant", ()): 150, ("holdout", noise): 180, ("holdout", saved): 120,
                     ("train", noise): 1530, ("train", saved): 1020}  # fmt: skip
    lengths = [len(e.actions) for e in load_episodes(collect(config)) if e.kind == "train"]
    assert sum(lengths) == 2550 and max(lengths) == 1000 and lengths.count(100) == 15


@pytest.mark.parametrize("task", ["Hopper-v5", "Reacher-v5", "Ant-v5"])
def test_wide_starts_vary_the_robot_and_spare_the_rest(task):
    env, seen, rng = MujocoEnv(task, observation="state"), probe(task), np.random.default_rng(0)
    wide, own = [], []
    for seed in range(25):
        own.append(env.reset(seed=seed)[1]["physics"])
        physics = wide_start(env, seen, rng)
        if physics is not None:
            wide.append(physics)
            env.reset(options={"physics": physics})
            _, _, terminated, *_ = env.step(np.zeros(env.action_space.shape))
            assert not terminated
    assert len(wide) >= 20
    model = env.simulator.model
    driven = 1 + model.jnt_qposadr[model.actuator_trnid[:, 0]]  # physics is time, then qpos
    assert (np.std(wide, axis=0)[driven] > 2 * np.std(own, axis=0)[driven]).all()
    if task == "Reacher-v5":
        # The target stays where the task's reset puts it: within 0.2 m of the middle.
        assert np.linalg.norm(np.stack(wide)[:, 3:5], axis=1).max() <= 0.2


def test_wide_starts_show_rest_all_along_the_rail(monkeypatch):
    env, seen = MujocoEnv("InvertedPendulum-v5", observation="state"), probe("InvertedPendulum-v5")

    def quiet(alone: float) -> int:
        """Of 200 starts, those off the rail's middle where nothing else is far from rest."""
        monkeypatch.setattr("procosm.envs.truth.starts.ALONE", alone)
        rng, count = np.random.default_rng(0), 0
        for seed in range(200):
            env.reset(seed=seed)
            physics = wide_start(env, seen, rng)
            if physics is not None:
                _, cart, angle, speed, turning = physics
                count += abs(cart) > 0.1 and abs(angle) < 0.03 and abs(speed) < 0.3 and abs(turning) < 0.3
        return count

    assert quiet(alone=0.5) > 3 * max(1, quiet(alone=0.0))


@pytest.mark.parametrize(
    "change",
    [{"steps": 5}, {"wide": 1.5}, {"holdout": 0.0}, {"processes": 0}, {"policy": "clever"}, {"env": "Reachr-v5"}],
)
def test_settings_that_make_no_sense_are_refused(change, tmp_path):
    with pytest.raises(ProcosmError):
        collect(CollectConfig(**{"env": "Reacher", "out": tmp_path, **change}))
    assert not list(tmp_path.iterdir())


def test_the_same_policies_by_another_path_are_the_same_collection(tmp_path, monkeypatch):
    env = gym.make("InvertedPendulum-v5")
    for name, seed in (("a", 0), ("b", 1)):
        save_learner(PPO("MlpPolicy", env, seed=seed, device="cpu"), tmp_path / f"{name}.zip")
    (tmp_path / "moved").mkdir()
    shutil.copyfile(tmp_path / "a.zip", tmp_path / "moved" / "c.zip")
    monkeypatch.chdir(tmp_path)

    def config(policy: str) -> CollectConfig:
        return CollectConfig("InvertedPendulum", tmp_path / "run", steps=200, processes=1, policy=f"policy:{policy}")

    made = collect_stage(config("a.zip"))
    before = (made / "main_data.hdf5").stat().st_mtime_ns
    for policy in (f"{tmp_path}/a.zip", "moved/c.zip"):
        assert collect_stage(config(policy)) == collect(config(policy)) == made
    assert (made / "main_data.hdf5").stat().st_mtime_ns == before
    for call in (collect_stage, collect):
        with pytest.raises(DatasetError):
            call(config("b.zip"))


def test_data_are_not_collected_into_a_checkpoint(tiny_checkpoint):
    before = sorted(tiny_checkpoint.iterdir())
    with pytest.raises(ProcosmError, match="is a checkpoint's folder"):
        check_outs(CollectConfig("InvertedPendulum", tiny_checkpoint))
    assert sorted(tiny_checkpoint.iterdir()) == before
