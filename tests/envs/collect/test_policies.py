"""Behaviour for collecting: mixtures as written, noise as its formula says, saved policies as SB3 runs them."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import PPO, SAC

from procosm.envs.collect.policies import Constant, Share, Smooth, Uniform, make_behaviour, parse_mixture
from procosm.envs.collect.policy_file import save_learner
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.errors import TaskError


@pytest.fixture(scope="module")
def task():
    return MujocoEnv("Pusher-v5", observation="state").task


def test_mixtures_are_read_as_written(tmp_path):
    saved = tmp_path / "a.zip"
    saved.write_bytes(b"zip")
    assert parse_mixture("noise:0.7,random:0.3") == (Share("noise", 0.7), Share("random", 0.3))
    assert parse_mixture("noise") == (Share("noise", 1.0),)
    assert parse_mixture(f"policy:{saved}:3, random:1") == (Share("policy", 0.75, str(saved)), Share("random", 0.25))
    assert parse_mixture(f"policy:{saved}") == (Share("policy", 1.0, str(saved)),)
    for run in ("one", "two"):
        (tmp_path / run / "policy").mkdir(parents=True)
        (tmp_path / run / "policy" / "policy.zip").write_bytes(b"zip")
    assert parse_mixture(f"run:{tmp_path}/one") == (Share("run", 1.0, f"{tmp_path}/one"),)
    shares = parse_mixture(f"run:{tmp_path}/*:1,noise:1")
    assert shares == (*(Share("run", 0.25, f"{tmp_path}/{run}") for run in ("one", "two")), Share("noise", 0.5))
    assert shares[0].policy == tmp_path / "one" / "policy" / "policy.zip"


def test_a_pattern_stands_for_all_its_policies(tmp_path):
    for name in ("sac-s1-4", "sac-s0-1", "sac-s0-4"):
        (tmp_path / f"{name}.zip").write_bytes(b"zip")
    assert parse_mixture(f"policy:{tmp_path}/*-s0-*.zip:3,random:1") == (
        Share("policy", 0.375, f"{tmp_path}/sac-s0-1.zip"),
        Share("policy", 0.375, f"{tmp_path}/sac-s0-4.zip"),
        Share("random", 0.25),
    )
    with pytest.raises(TaskError, match=r"there is no file .*ppo-\*\.zip"):
        parse_mixture(f"policy:{tmp_path}/ppo-*.zip")


@pytest.mark.parametrize(
    "text", ["", "noisy:1", "noise:-1", "random:x", "policy:0.5", "policy:none.zip:0.5", "run:none", "run"]
)
def test_other_texts_are_refused(text):
    with pytest.raises(TaskError, match="behaviour"):
        parse_mixture(text)


@pytest.mark.parametrize("kind", [Uniform, Smooth, Constant])
def test_actions_keep_to_the_bounds_and_repeat_with_their_generator(kind, task):
    behaviour = kind(task)
    runs = []
    for _ in range(2):
        behaviour.begin(np.random.default_rng(9))
        runs.append(np.stack([behaviour.act(np.zeros(3), lambda: None) for _ in range(50)]))
    np.testing.assert_array_equal(*runs)
    assert runs[0].dtype == np.float32 and runs[0].shape == (50, 7)
    assert (runs[0] >= np.float32(task.action_low)).all() and (runs[0] <= np.float32(task.action_high)).all()


def test_smooth_noise_has_the_correlation_it_drew(task):
    behaviour = Smooth(task)
    for seed in range(4):
        behaviour.begin(np.random.default_rng(seed))
        raw = []
        for _ in range(4000):
            behaviour.act(np.zeros(3), lambda: None)
            raw.append(behaviour._noise)
        raw = np.stack(raw)
        measured = np.mean([np.corrcoef(raw[:-1, i], raw[1:, i])[0, 1] for i in range(7)])
        assert measured == pytest.approx(behaviour._smooth, abs=0.03)
        assert raw.std() == pytest.approx(1.0, abs=0.12)


def test_constant_actions_stay_and_are_often_no_action(task):
    behaviour = Constant(task)
    still = 0
    for seed in range(60):
        behaviour.begin(np.random.default_rng(seed))
        first = behaviour.act(np.zeros(3), lambda: None).copy()
        np.testing.assert_array_equal(behaviour.act(np.ones(3), lambda: None), first)
        still += not first.any()
    assert 10 <= still <= 30


@pytest.mark.parametrize("algorithm", [PPO, SAC])
def test_a_saved_policy_acts_as_sb3_runs_it(algorithm, tmp_path):
    env = gym.make("Procosm/ReacherTruth-v0", observation="state")
    model = algorithm("MlpPolicy", env, seed=0, device="cpu")
    save_learner(model, tmp_path / "policy.zip")
    behaviour = make_behaviour(Share("policy", 1.0, str(tmp_path / "policy.zip")), env.unwrapped.task)
    state, _ = env.reset(seed=1)
    torch.manual_seed(4)
    before = torch.get_rng_state()
    behaviour.begin(np.random.default_rng(3))
    acted = [behaviour.act(state, lambda: None) for _ in range(3)]
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(int(np.random.default_rng(3).integers(2**31)))
    np.testing.assert_array_equal(acted, [model.predict(state, deterministic=False)[0] for _ in range(3)])


def test_a_policy_of_other_spaces_is_refused(tmp_path, task):
    env = gym.make("Procosm/ReacherTruth-v0", observation="state")
    save_learner(PPO("MlpPolicy", env, device="cpu"), tmp_path / "policy.zip")
    with pytest.raises(TaskError, match="observes"):
        make_behaviour(Share("policy", 1.0, str(tmp_path / "policy.zip")), task)


def test_a_file_that_is_no_policy_is_refused(tmp_path, task):
    (tmp_path / "policy.zip").write_bytes(b"no zip at all")
    with pytest.raises(TaskError, match="no policy"):
        make_behaviour(Share("policy", 1.0, str(tmp_path / "policy.zip")), task)


@pytest.mark.parametrize("share", ["", ":0.5"])
@pytest.mark.parametrize(
    "name", ["lr=0.1,seed=0/policy.zip", "a,noise:0.5/p.zip", "[x]/a*b?.zip", "a:0.5", "a:b/p.zip:2", "no ending"]
)
def test_a_path_is_a_path(tmp_path, name, share):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"zip")
    shares = parse_mixture(f"policy:{path}{share},noise:0.5")
    assert shares[0].path == str(path) and [each.kind for each in shares] == ["policy", "noise"]


def test_a_pattern_holds_where_no_file_is_named_so(tmp_path, monkeypatch):
    for name in ("[x]/a.zip", "x/b.zip", "lr=1,s=0/c.zip", "lr=2,s=0/c.zip"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"zip")
    monkeypatch.chdir(tmp_path)
    found = {pattern: [s.path for s in parse_mixture(f"policy:{pattern},random:1")] for pattern in
             ("[x]/*.zip", f"{tmp_path}/[x]/*.zip", "lr=*,s=0/*.zip", "[yx]/*.zip", "**/b.zip")}  # fmt: skip
    assert found["[x]/*.zip"] == ["[x]/a.zip", ""] and found[f"{tmp_path}/[x]/*.zip"] == [f"{tmp_path}/[x]/a.zip", ""]
    assert found["lr=*,s=0/*.zip"] == ["lr=1,s=0/c.zip", "lr=2,s=0/c.zip", ""]
    assert found["[yx]/*.zip"] == ["x/b.zip", ""] and found["**/b.zip"] == ["x/b.zip", ""]
