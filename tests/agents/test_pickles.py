"""A stranger's run folder runs no code, wherever a policy of it is opened; one that SB3 saved is opened if trusted."""

import base64
import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO, SAC, TD3
from stable_baselines3.common.env_util import make_vec_env

from procosm.agents.judge.evaluate import trained_player
from procosm.agents.judge.ranking.members import Member
from procosm.agents.judge.ranking.paired import Actor
from procosm.agents.judge.rollouts import Player, actor, open_policy
from procosm.agents.policy.train import PolicyConfig, train_policy
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.collect.policy_file import load_policy, read_stored, restore_learner, save_learner
from procosm.envs.play.command import PlayConfig, find_stage
from procosm.world_model.checkpoint import load
from procosm.world_model.errors import ProcosmError, TaskError

MARK = Path("/tmp") / f"procosm-code-ran-{id(object())}"


class Code:
    """Pickled, it makes a file when it is opened."""

    def __reduce__(self) -> tuple:
        return Path.touch, (MARK,)


def poison(path: Path) -> None:
    """Put code into every pickle of a zip that SB3 saved."""
    memory = io.BytesIO()
    code = base64.b64encode(pickle.dumps(Code())).decode()
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(memory, "w") as archive:
        for name in whole.namelist():
            content = whole.read(name)
            if name == "data":
                values = json.loads(content)
                values["gamma"] = {":type:": "float", ":serialized:": code}
                content = json.dumps(values).encode()
            archive.writestr(name, content)
    path.write_bytes(memory.getvalue())


@pytest.fixture(scope="module")
def stranger(tiny_checkpoint, tmp_path_factory) -> Path:
    """A run whose policy is a zip of SB3's with code in it."""
    run = tmp_path_factory.mktemp("stranger") / "run"
    shutil.copytree(tiny_checkpoint, run / "world_model")
    (run / "policy").mkdir()
    path = run / "policy" / "policy.zip"
    PPO("MlpPolicy", gym.make("InvertedPendulum-v5"), n_steps=8, batch_size=8, device="cpu").save(path)
    poison(path)
    shutil.copyfile(path, path.with_name("training.zip"))
    path.with_name("training.json").write_text(
        '{"algorithm": "ppo", "observation": "state", "rounds": [], "truth": []}'
    )
    return run


OPENERS: dict[str, Callable[[Path, bool], object]] = {
    "load_policy": lambda run, trust: load_policy(run / "policy/policy.zip", trust),
    "play": lambda run, trust: find_stage(PlayConfig(run, run / "policy/policy.zip", trust_pickle=trust)),
    "evaluate": lambda run, trust: actor(trained_player(run, trust_pickle=trust), load(run / "world_model").task, 0),
    "collect": lambda run, trust: collect(
        CollectConfig(
            "InvertedPendulum", run.parent / "new", steps=200, policy=f"policy:{run / 'policy/policy.zip'}",
            processes=1, trust_pickle=trust,
        )
    ),
    "ranking": lambda run, trust: Actor(
        Member("a", "ppo", path=run / "policy/policy.zip", trust_pickle=trust), load(run / "world_model").task, 1
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", OPENERS)
def test_code_in_a_pickle_runs_only_where_it_is_trusted(stranger, name):
    MARK.unlink(missing_ok=True)
    with pytest.raises(ProcosmError, match="--trust-pickle"):
        OPENERS[name](stranger, False)
    assert not MARK.exists()
    OPENERS[name](stranger, True)
    assert MARK.exists()
    MARK.unlink()


def test_what_lies_beside_the_checkpoint_is_not_opened_either(stranger):
    assert "--trust-pickle" in find_stage(PlayConfig(stranger)).without_policy and not MARK.exists()


def test_a_training_does_not_go_on_from_a_pickle(stranger, tmp_path):
    (tmp_path / "policy").mkdir()
    shutil.copyfile(stranger / "policy" / "training.zip", tmp_path / "policy" / "training.zip")
    config = PolicyConfig(stranger / "world_model", tmp_path / "policy", dreams=8, rollout_steps=2, horizon=2, width=16)
    with pytest.raises(ProcosmError, match=r"holds pickles.*delete .*training\.zip") as refused:
        train_policy(config)
    assert not MARK.exists() and "--trust-pickle" not in str(refused.value)  # which train-policy does not take


@pytest.mark.parametrize("algorithm", [PPO, SAC, TD3, A2C])
def test_a_policy_acts_as_before_and_a_learner_goes_on(tmp_path, algorithm):
    def fresh() -> PPO | SAC | TD3 | A2C:
        env = make_vec_env("InvertedPendulum-v5", seed=1)
        return algorithm("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [8, 8]})

    learner = fresh()
    learner.learn(120)
    save_learner(learner, tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.namelist() == ["policy.json", "tensors.safetensors"]
    before = torch.get_rng_state()
    policy, seen = load_policy(tmp_path / "a.zip"), np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)
    assert torch.equal(torch.get_rng_state(), before)
    assert policy.observation_space == learner.observation_space and policy.action_space == learner.action_space
    np.testing.assert_array_equal(
        policy.predict(seen, deterministic=True)[0], learner.predict(seen, deterministic=True)[0]
    )
    again = fresh()
    restore_learner(again, tmp_path / "a.zip")
    assert again.num_timesteps == learner.num_timesteps
    save_learner(again, tmp_path / "b.zip")
    assert (tmp_path / "a.zip").read_bytes() == (tmp_path / "b.zip").read_bytes()  # optimizers and all


def rewritten(path: Path, change: Callable[[dict], object]) -> Path:
    with zipfile.ZipFile(path) as archive:
        values, tensors = json.loads(archive.read("policy.json")), archive.read("tensors.safetensors")
    change(values)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("policy.json", json.dumps(values))
        archive.writestr("tensors.safetensors", tensors)
    return path


@pytest.mark.parametrize(
    "change",
    [
        lambda v: v.update(net_arch=[10**9, 10**9]),
        lambda v: v.update(net_arch=[64, -1]),
        lambda v: v.update(net_arch="wide"),
        lambda v: v.update(net_arch={"pi": [65536, 65536], "vf": []}),
        lambda v: v.update(features="os.system"),
        lambda v: v.update(algorithm="Evil"),
        lambda v: v.update(policy="MultiInputPolicy"),
        lambda v: v.update(policy=["MlpPolicy"]),
        lambda v: v.update(format=2),
        lambda v: v.update(counters={"num_timesteps": -1}),
        lambda v: v.update(more=1),
        lambda v: v.clear(),
    ],
)
def test_a_file_with_values_that_cannot_be_is_refused(tmp_path, change):
    save_learner(PPO("MlpPolicy", gym.make("InvertedPendulum-v5"), device="cpu"), tmp_path / "a.zip")
    with pytest.raises(TaskError, match=r"a\.zip"):
        load_policy(rewritten(tmp_path / "a.zip", change))


def test_a_damaged_file_is_named(tmp_path):
    learner = PPO("MlpPolicy", gym.make("InvertedPendulum-v5"), device="cpu")
    with torch.no_grad():
        learner.policy.action_net.weight[0, 0] = float("nan")
    save_learner(learner, tmp_path / "nan.zip")
    with pytest.raises(TaskError, match=r"action_net\.weight is not finite"):
        read_stored(tmp_path / "nan.zip")
    whole = (tmp_path / "nan.zip").read_bytes()
    for content in (b"", b"no zip", whole[: len(whole) // 2]):
        (tmp_path / "bad.zip").write_bytes(content)
        with pytest.raises(TaskError, match=r"bad\.zip is no policy"):
            load_policy(tmp_path / "bad.zip", trust_pickle=True)


def test_a_policy_that_was_trained_again_is_read_again(tmp_path):
    path, seen = tmp_path / "a.zip", np.ones((1, 4), np.float32)
    acted = []
    for seed in (0, 1):
        save_learner(PPO("MlpPolicy", gym.make("InvertedPendulum-v5"), seed=seed, device="cpu"), path)
        acted.append(open_policy(path).predict(seen, deterministic=True)[0])
        assert open_policy(path) is open_policy(path)
    assert acted[0] != acted[1]
    assert Player(path, "trained").trust_pickle is False
