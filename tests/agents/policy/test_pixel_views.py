"""A policy from the pixels of two cameras learns in dreams, is judged and played, and sees one picture throughout."""

import numpy as np

from procosm.agents.judge.rollouts import Player, play_dreams, play_truth
from procosm.agents.policy.train import PolicyConfig, train_policy
from procosm.agents.policy.worlds import dreams
from procosm.envs.play.pair import Pair
from procosm.envs.play.policy import SavedPilot
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.checkpoint import load, save
from tests.agents.conftest import SMALL_POLICY
from tests.conftest import restless_model

SIDE = {"lookat": [0.0, 0.0, 0.3], "azimuth": 60.0, "elevation": -20.0, "distance": 3.0}


def test_pixels_of_two_views_are_learned_from_as_one_picture(tmp_path):
    task = MujocoEnv("InvertedPendulum-v5", cameras={"front": None, "side": SIDE}).task
    folder = save(tmp_path / "world_model", restless_model(task))
    env = dreams(load(folder), 3, "pixels", horizon=1, gamma=0.9)
    assert env.observation_space.shape == (64, 128, 9) and env.reset().shape == (3, 64, 128, 9)
    seen, _, dones, infos = env.step(np.zeros((3, 1), np.float32))
    assert seen.shape == (3, 64, 128, 9) and dones.all()
    assert all(info["terminal_observation"].shape == (64, 128, 9) for info in infos)
    env.close()
    settings = SMALL_POLICY | {"dreams": 4, "iterations": 2, "epochs": 1, "observation": "pixels"}
    config = PolicyConfig(folder, tmp_path / "policy", truth_every=1, truth_episodes=1, **settings)
    policy = train_policy(config) / "policy.zip"
    player = Player(folder, "trained", policy, "ppo", "pixels")
    (played,) = play_truth(player, [5], 1)
    assert played.first_frame.shape == (64, 128, 3) and played.steps >= 1
    (dreamed,) = play_dreams(player, [played])
    assert np.isfinite(dreamed.total)
    pair = Pair(load(folder), denoising_steps=1, horizon=9)
    scene = pair.begin(0)
    for world in ("dream", "truth"):
        assert SavedPilot(policy, pair.model).act(pair, [scene], world).shape == (1,)
    pair.close()
