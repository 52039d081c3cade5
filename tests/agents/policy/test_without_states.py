"""The whole road from pixels, actions and rewards alone: what is learned, seen, trusted and practised in."""

import dataclasses

import numpy as np
import pytest
import torch

from procosm.agents.policy.train import PolicyConfig, train_policy
from procosm.agents.policy.worlds import dreams, judged
from procosm.agents.road import train_stage
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.world_model.checkpoint import load
from procosm.world_model.training.train import TrainConfig


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with data and a world model of them."""
    out = tmp_path_factory.mktemp("blind")
    settings = {"signals": "reward", "wide": 0.0, "constant": 0.0, "processes": 1}
    data = collect(CollectConfig("InvertedPendulum", out, steps=300, **settings))
    train_stage(TrainConfig(data, out / "world_model", preset="debug"))
    return out


def test_a_model_without_states_tells_features_and_judges_itself_by_them(run):
    model = load(run / "world_model")
    assert model.capabilities == {"reward", "termination", "features", "trust"} and model.start_states is None
    assert {"tokenizer", "features", "manifold", "diffusion", "unroll-0", "growth", "open_loop"} <= set(model.metrics)
    told = {"used": ["actions", "reward", "termination"], "read": ["features", "reward", "termination"]}
    assert model.metrics["signals"] == told
    assert {"motion", "picture"} < set(model.metrics["tokenizer"]) and "state" not in model.metrics["tokenizer"]
    assert model.metrics["growth"]["by_horizon"][0]["n"] > 0, "held-out episodes stand for those of one action"
    assert "features" in model.metrics["open_loop"] and "state" not in model.metrics["open_loop"]
    features = model.read("features", model.starts)
    assert features.shape == (len(model.starts), model.dynamics.config.features)
    assert 0.3 < features.std() < 3, "of deviation 1 over the data"


def test_a_policy_sees_features_unless_it_is_asked_for_something_else(run, tmp_path):
    settings = {"dreams": 4, "rollout_steps": 4, "horizon": 4, "iterations": 1, "epochs": 1, "truth_every": 1}
    train_policy(PolicyConfig(run / "world_model", tmp_path / "policy", minibatches=2, **settings))
    text = (tmp_path / "policy" / "training.json").read_text()
    assert '"observation": "features"' in text
    model = load(run / "world_model")
    env = judged(run / "world_model", model.task, "features")
    seen = env.reset()
    assert seen.shape == (1, model.dynamics.config.features)
    begun = model.read("features", model.encode(env.get_attr("unwrapped")[0].render()[None])[:, None])
    np.testing.assert_allclose(seen, begun.numpy(), atol=1e-3)
    env.close()


@pytest.mark.parametrize("known", [True, False])
def test_dreams_may_be_cut_where_the_log_has_never_been(run, known):
    model = load(run / "world_model")
    distances = torch.full_like(model.trust["distances"], 1e3 if known else 1e-3)
    known_model = dataclasses.replace(model, trust=model.trust | {"distances": distances})
    env = dreams(known_model, 8, "features", 3, 0.99, trust_below=0.05)
    env.seed(0)
    env.reset()
    steps = [env.step(np.zeros((8, 1), np.float32)) for _ in range(3)]
    over = [(t, info) for t, (_, _, dones, infos) in enumerate(steps) for info in np.array(infos)[dones]]
    assert {t for t, _ in over} == ({2} if known else {0, 1, 2})
    assert all((info["trust"] >= 0.05) == known for _, info in over)
    env.close()


def test_untrained_features_are_of_no_state(run):
    """Nothing of the simulator's state is in the folder."""
    model = load(run / "world_model")
    assert model.task.state_size == 0 and not any("state" in name for name in model.dynamics.state_dict())
    assert torch.isfinite(model.read("features", model.starts)).all()
