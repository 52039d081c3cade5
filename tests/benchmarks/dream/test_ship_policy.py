"""The policy that ships is what was trained, smaller: it acts the same, and holds nothing that it does not act with."""

import json

import numpy as np
import pytest

from procosm.agents.policy.train import PolicyConfig, train_policy
from procosm.benchmarks.dream import ship_policy as shipping
from procosm.envs.collect import policy_file
from procosm.envs.collect.policy_file import CRITICS, load_policy, read_stored, save_acting
from procosm.envs.dreams.weights import SHIPPED
from procosm.world_model.errors import TaskError

SMALL = {"dreams": 4, "iterations": 1, "rollout_steps": 2, "horizon": 2, "width": 32, "minibatches": 2, "epochs": 1}


@pytest.mark.parametrize("algorithm", ["ppo", "sac"])
def test_what_acts_is_kept_and_acts_the_same(algorithm, tmp_path):
    options = {"algorithm": algorithm, "truth_every": 0, "device": "cpu", **SMALL}
    trained = train_policy(PolicyConfig(SHIPPED / "InvertedPendulum", tmp_path / "policy", **options)) / "policy.zip"
    save_acting(trained, tmp_path / "small.zip")
    assert (tmp_path / "small.zip").stat().st_size < trained.stat().st_size / 4
    names = read_stored(tmp_path / "small.zip").tensors
    assert not any(name.removeprefix("weights.").startswith(CRITICS) or "optimizer" in name for name in names)
    whole, small = load_policy(trained), load_policy(tmp_path / "small.zip")
    seen = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
    actions = [policy.predict(seen, deterministic=True)[0] for policy in (whole, small)]
    np.testing.assert_allclose(*actions, atol=3 * 2**-10)  # of a range of ±3, what half precision rounds
    assert np.abs(actions[0]).max() > 0.01
    critics = [weights for name, weights in small.named_parameters() if name.startswith(CRITICS)]
    assert critics and all(weights.isnan().all() for weights in critics), "it has no values, and invents none"


def test_a_policy_that_lacks_some_weights_is_damaged(tmp_path):
    """Only a critic may be left out, and only as a whole."""
    path = shipping.SHIPPED_POLICIES / "InvertedPendulum.zip"
    stored = read_stored(path)
    settings = {"format": 1, "algorithm": stored.algorithm, "policy": stored.policy, "net_arch": stored.net_arch}
    settings |= {"features": stored.features, "counters": dict(stored.counters)}
    for change in ({"weights.action_net.bias": None}, {"weights.value_net.bias": stored.tensors["action.low"].clone()}):
        tensors = {name: tensor for name, tensor in (stored.tensors | change).items() if tensor is not None}
        policy_file._write(tmp_path / "bad.zip", settings, tensors)
        with pytest.raises(TaskError, match="is damaged"):
            load_policy(tmp_path / "bad.zip")


def test_the_command_ships_and_judges(tmp_path, monkeypatch):
    monkeypatch.setattr(shipping, "SHIPPED_POLICIES", tmp_path)
    monkeypatch.setitem(shipping.SETTINGS, "InvertedPendulum", SMALL)
    config = shipping.ShipPolicyConfig("InvertedPendulum", episodes=2, runs=tmp_path / "runs", out=tmp_path)
    path = shipping.ship_policy(config)
    assert path == tmp_path / "InvertedPendulum.zip" and path.stat().st_size < shipping.MOST_BYTES
    rows = json.loads((tmp_path / "policy_invertedpendulum.json").read_text())["rows"]
    assert [row["metric"].split(", ")[1] for row in rows] == ["trained", "zero", "random"]
    assert all(row["n"] == 2 and row["low"] <= row["value"] <= row["high"] for row in rows)
