"""Training in dreams: it learns, it resumes to the bit after kill -9, and what it saves opens."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
import torch
from gymnasium.spaces import Box
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import VecEnv

from procosm.agents import policy
from procosm.agents.policy.learners import new_learner, set_exploration
from procosm.agents.policy.replay import load_rounds, save_round
from procosm.agents.policy.train import PolicyConfig, train_policy
from procosm.agents.policy.worlds import dreams
from procosm.envs.collect.policy_file import load_policy, save_learner
from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.settings import SettingsError

SMALL = {"dreams": 8, "horizon": 4, "rollout_steps": 2, "iterations": 8, "width": 16, "epochs": 2, "truth_every": 0}

COMMAND = """
import sys
from pathlib import Path
from procosm.agents.policy.train import PolicyConfig, train_policy
settings = eval(sys.argv[3])
train_policy(PolicyConfig(Path(sys.argv[1]), Path(sys.argv[2]), **settings))
"""


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_policy(folder / "policy.zip").state_dict()


@pytest.mark.parametrize("algorithm", ["ppo", "sac", "shac"])
def test_killed_training_ends_with_the_same_weights(tiny_checkpoint, tmp_path, algorithm):
    settings = SMALL | {"algorithm": algorithm}
    whole = train_policy(PolicyConfig(tiny_checkpoint, tmp_path / "whole", **settings))
    killed = tmp_path / "killed"
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}
    process = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(tiny_checkpoint), str(killed), repr(settings)],
        stderr=subprocess.DEVNULL,
        env=environment,
    )
    until = time.monotonic() + 300
    while not (killed / "training.zip").exists() and process.poll() is None and time.monotonic() < until:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "policy.zip").exists(), "the process was done before it could be killed"
    begun = json.loads((killed / "training.json").read_text())["rounds"]
    assert len(begun) < 4
    train_policy(PolicyConfig(tiny_checkpoint, killed, **settings))
    expected, found = weights(whole), weights(killed)
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert json.loads((whole / "training.json").read_text()) == json.loads((killed / "training.json").read_text())


def test_a_signal_in_a_round_waits_for_its_end_and_its_save(tiny_checkpoint, tmp_path, monkeypatch):
    whole = train_policy(PolicyConfig(tiny_checkpoint, tmp_path / "whole", **SMALL))
    real = policy.train.practise

    def interrupted(learner, config, index, callback) -> None:
        if index == 1:
            signal.raise_signal(signal.SIGINT)
        real(learner, config, index, callback)

    config = PolicyConfig(tiny_checkpoint, tmp_path / "part", **SMALL)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(policy.train, "practise", interrupted)
        train_policy(config)
    assert len(json.loads((config.out / "training.json").read_text())["rounds"]) == 2
    expected, found = weights(whole), weights(train_policy(config))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


@pytest.mark.parametrize(
    ("algorithm", "observation"),
    [("ppo", "state"), ("ppo", "latent"), ("ppo", "pixels"), ("shac", "state"), ("shac", "latent")],
)
def test_a_saved_policy_opens_and_acts_within_bounds(tiny_checkpoint, tmp_path, algorithm, observation):
    settings = SMALL | {"iterations": 2, "algorithm": algorithm, "observation": observation}
    folder = train_policy(PolicyConfig(tiny_checkpoint, tmp_path / "policy", **settings))
    policy = load_policy(folder / "policy.zip")
    action, _ = policy.predict(policy.observation_space.sample(), deterministic=True)
    assert policy.action_space.contains(action)
    assert not (folder / "training.zip").exists()


def test_other_seeds_give_other_policies(tiny_checkpoint, tmp_path):
    made = [
        train_policy(PolicyConfig(tiny_checkpoint, tmp_path / str(seed), **SMALL | {"iterations": 2}, seed=seed))
        for seed in (0, 1)
    ]
    first, second = (weights(folder) for folder in made)
    assert not torch.equal(first["action_net.weight"], second["action_net.weight"])


def mean_return(env: VecEnv, act: Callable[[np.ndarray], np.ndarray]) -> float:
    """Over the first dream of each slot, from the same windows each time."""
    env.seed(3)
    observed, first = env.reset(), {}
    while len(first) < env.num_envs:
        observed, _, dones, infos = env.step(act(observed))
        for slot in np.flatnonzero(dones):
            first.setdefault(int(slot), infos[slot]["episode"]["r"])
    return float(np.mean(list(first.values())))


def test_policy_learns_more_than_any_constant_action_earns(linear_world):
    size = {"dreams": 64, "horizon": 7, "rollout_steps": 7, "iterations": 20, "width": 32, "gamma": 0.9}
    config = PolicyConfig(Path(), Path(), observation="latent", **size)
    env = dreams(linear_world, config.dreams, "latent", config.horizon, config.gamma)
    constants = [mean_return(env, lambda seen, a=a: np.full((len(seen), 1), a)) for a in np.linspace(-1, 1, 9)]
    learner = new_learner(config, env, linear_world)
    set_exploration(learner, 0.3)
    learner.learn(config.rounds * config.round_steps)
    assert mean_return(env, lambda seen: learner.predict(seen, deterministic=True)[0]) > max(constants)


def test_exploration_is_a_share_of_half_the_range_and_does_not_learn(linear_world):
    config = PolicyConfig(Path(), Path(), **SMALL)
    learner = new_learner(config, dreams(linear_world, 8, "state", 4, 0.99), linear_world)
    set_exploration(learner, 0.25)
    learner.learn(config.round_steps)
    half = (learner.action_space.high - learner.action_space.low) / 2
    np.testing.assert_allclose(learner.policy.log_std.detach().exp().numpy(), 0.25 * half, rtol=1e-6)


def test_rewards_are_scaled_for_learning_and_counted_in_real_units(linear_world):
    env = dreams(linear_world, 3, "state", 4, gamma=0.9)
    env.seed(5)
    env.reset()
    total, infos = np.zeros(3), []
    for _ in range(4):
        _, rewards, dones, infos = env.step(np.full((3, 1), -0.1, np.float32))
        total += rewards
    assert dones.all()
    # 10 (1 - 0.9) over the largest reward of the data, 0.6
    np.testing.assert_allclose([info["episode"]["r"] * 1.0 / 0.6 for info in infos], total, rtol=1e-5)


def test_the_true_return_is_looked_at_and_its_steps_are_counted(finished_run):
    log = json.loads((finished_run / "policy" / "training.json").read_text())
    assert [look["imagined_steps"] for look in log["truth"]] == [32, 64]
    for look in log["truth"]:
        # This task pays 1 for each step but the one that ends it.
        assert look["returns"] == [length - 1 for length in look["lengths"]]
        assert look["real_steps"] == sum(look["lengths"])
    assert list((finished_run / "policy" / "tb").iterdir())


def test_a_full_disk_leaves_the_last_finished_round(linear_world, tmp_path):
    config = PolicyConfig(Path(), Path(), **SMALL)
    learner = new_learner(config, dreams(linear_world, 8, "state", 4, 0.99), linear_world)
    path = tmp_path / "training.zip"
    path.write_bytes(b"the round before")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))  # the kernel refuses what goes beyond, as a full disk does
    try:
        with pytest.raises(ProcosmError, match=r"cannot write .*training.zip"):
            save_learner(learner, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"the round before" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dreams": 1}, "--dreams 1 must be at least 2"),
        ({"std_end": 0.9}, "std-end"),
        ({"gamma": 1.0}, "gamma"),
        ({"minibatches": 5}, "do not divide"),
    ],
)
def test_settings_that_cannot_train_are_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises(ProcosmError, match=message):
        train_policy(PolicyConfig(tmp_path / "none", tmp_path / "policy", **SMALL | change))
    assert not (tmp_path / "policy").exists()


def test_without_a_world_model_the_error_says_how_to_make_one(tmp_path):
    with pytest.raises(CheckpointError, match="procosm run"):
        train_policy(PolicyConfig(tmp_path / "none", tmp_path / "policy", **SMALL))


def test_a_damaged_replay_buffer_is_named(tiny_checkpoint, tmp_path):
    settings = SMALL | {"algorithm": "sac", "iterations": 4}
    folder = train_policy(PolicyConfig(tiny_checkpoint, tmp_path / "policy", **settings))
    (folder / "policy.zip").rename(folder / "training.zip")
    (folder / "replay" / "round_0001.safetensors").write_bytes(b"half")
    with pytest.raises(CheckpointError, match="round 1 of the replay buffer"):
        train_policy(PolicyConfig(tiny_checkpoint, folder, **settings))


@pytest.mark.parametrize("spoil", ["missing", "short", "not finite", "other kind"])
def test_a_spoilt_round_of_the_replay_buffer_is_named(tmp_path, spoil):
    spaces = Box(-1, 1, (3,), np.float32), Box(-1, 1, (1,), np.float32)
    buffer = ReplayBuffer(4, *spaces, device="cpu", n_envs=1)
    save_round(buffer, tmp_path / "replay", 0, 2)
    path = tmp_path / "replay" / "round_0000.safetensors"
    load_rounds(buffer, tmp_path / "replay", 1, 2)
    arrays = safetensors.numpy.load_file(path)
    rewards = arrays.pop("rewards")
    if spoil != "missing":
        changed = {"short": rewards[:1], "not finite": rewards * np.nan, "other kind": rewards.astype(np.float64)}
        arrays["rewards"] = np.ascontiguousarray(changed[spoil])
    safetensors.numpy.save_file(arrays, path)
    with pytest.raises(CheckpointError, match=r"round_0000.safetensors .*rewards.*delete .* train the policy again"):
        load_rounds(buffer, tmp_path / "replay", 1, 2)


def test_a_round_longer_than_the_training_is_refused(tiny_checkpoint, tmp_path):
    with pytest.raises(SettingsError, match="--horizon 100000 takes 6250 iterations"):
        PolicyConfig(tiny_checkpoint, tmp_path, horizon=100_000, iterations=2)
