"""Six cameras, one carried by the robot's hand: logged, learned, dreamed, and all of them seen by a policy."""

from dataclasses import replace

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO

import procosm.envs  # noqa: F401
from procosm.agents.policy.vecenv import WorldModelVecEnv
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.workbench import CAMERAS
from procosm.world_model.conditioning.views import ViewsConfig
from procosm.world_model.data.episodes import load_episodes, load_task
from procosm.world_model.training.train import TrainConfig, train
from tests.conftest import restless_model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("six")
    config = CollectConfig("Workbench", out, steps=160, processes=1, frame_size=32, camera=CAMERAS, constant=0.0)
    train(TrainConfig(collect(config), out / "world_model", preset="debug", effort=0.2, views=True, device="cpu"))
    return out


def test_every_camera_is_logged_and_the_carried_one_moves(run):
    task, episode = load_task(run / "data"), load_episodes(run / "data")[0]
    shown = task.split(episode.frames)
    assert tuple(shown) == CAMERAS and all((seen != seen[0]).any() for seen in shown.values())
    # More of what the carried camera sees changes than of what any other does.
    changed = {name: (seen[1:] != seen[:-1]).any(-1).mean() for name, seen in shown.items()}
    assert changed["wrist"] > max(changed[name] for name in CAMERAS[:-1])


@pytest.mark.filterwarnings("ignore:.*WARN")
def test_the_dream_is_an_environment_of_six_views_and_says_that_it_knows_them(run):
    env = gym.make("Procosm/WorkbenchTruth-v0", cameras={name: name for name in CAMERAS}, frame_size=32)
    dream = gym.make("Procosm/World-v0", checkpoint=run)
    assert dream.observation_space == env.observation_space and "views" in dream.unwrapped.conditions
    check_env(dream.unwrapped, skip_render_check=True)
    env.close()


def test_a_policy_of_stable_baselines_sees_every_view():
    """It learns from the Dict as it is; what it then does depends on each view."""
    task = MujocoEnv("Workbench-v0", 64, cameras={name: name for name in CAMERAS}).task
    model = restless_model(task, change=lambda config: replace(config, views=ViewsConfig()))
    batch = gym.make_vec(
        "Procosm/World-v0", 2, checkpoint=model, max_episode_steps=4, autoreset_mode="SAME_STEP", starts="wide"
    )
    policy = PPO("MultiInputPolicy", WorldModelVecEnv(batch), n_steps=4, batch_size=8, n_epochs=1, seed=0).learn(8)
    seen, _ = batch.reset(seed=0)
    assert tuple(policy.observation_space.spaces) == tuple(sorted(CAMERAS))
    done = policy.predict(seen, deterministic=True)[0]
    for name in CAMERAS:
        blank = {**seen, name: np.zeros_like(seen[name])}
        assert not np.array_equal(policy.predict(blank, deterministic=True)[0], done), name
    batch.close()
