"""Several cameras and frames that are not square: on the whole road, in the same spaces dreamed and real."""

import dataclasses
import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from gymnasium.vector.utils import batch_space

from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.dreams.perceive import PerceiveWrapper
from procosm.envs.dreams.weights import open_model
from procosm.envs.play.pair import Actions, Pair
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.world_model.data.episodes import load_episodes, load_task
from procosm.world_model.data.task import View
from procosm.world_model.errors import TaskError
from procosm.world_model.training.train import TrainConfig, train

SLANT = {"lookat": [0.0, 0.0, 0.3], "azimuth": 60.0, "elevation": -20.0, "distance": 3.0}
CAMERAS = {"front": None, "slant": SLANT}
SIZE = (64, 96)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Collected and trained with two cameras of 64 by 96 pixels."""
    out = tmp_path_factory.mktemp("views")
    cameras = ("front=", f"slant={json.dumps(SLANT)}")
    config = CollectConfig("InvertedPendulum", out, steps=200, processes=1, frame_size="64x96", camera=cameras)
    train(TrainConfig(collect(config), out / "world_model", preset="debug"))
    return out


@pytest.mark.filterwarnings("ignore:.*WARN")
@pytest.mark.parametrize("renderer", ["auto", "raycast"])
def test_views_of_one_moment_are_what_each_camera_alone_shows(renderer):
    both = MujocoEnv("InvertedPendulum-v5", SIZE, cameras=CAMERAS, renderer=renderer, observation=("pixels", "state"))
    check_env(both, skip_render_check=True)
    observed, _ = both.reset(seed=3)
    observed = both.step(both.action_space.high)[0]
    assert both.observation_space.contains(observed) and set(observed["pixels"]) == set(CAMERAS)
    assert np.array_equal(both.task.join(observed["pixels"]), both.render())
    assert both.task.views == (View("front", 64, 96), View("slant", 64, 96))
    for name, camera in CAMERAS.items():
        alone = MujocoEnv("InvertedPendulum-v5", SIZE, camera=camera, renderer=renderer)
        alone.reset(seed=3)
        frame = alone.step(alone.action_space.high)[0]
        assert frame.shape == (64, 96, 3)
        assert np.array_equal(frame, observed["pixels"][name])
    assert MujocoEnv.from_task(both.task).task == both.task


def test_a_wide_picture_shows_more_to_the_sides_and_the_same_in_its_middle():
    """A pose of the user's has 45 degrees of height whatever the width."""
    near = {**SLANT, "distance": 1.0}
    square = MujocoEnv("InvertedPendulum-v5", 64, camera=near, renderer="raycast")
    wide = MujocoEnv("InvertedPendulum-v5", (64, 128), camera=near, renderer="raycast")
    seen, more = (env.reset(seed=1)[0].astype(int) for env in (square, wide))
    apart = np.abs(more[:, 32:96] - seen)
    assert (apart > 8).mean() < 0.01 and more[:, :32].any()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"cameras": {}}, "cameras"),
        ({"cameras": {"1st": None}}, "cameras"),
        ({"cameras": {"a": None}, "camera": SLANT}, "cameras"),
        ({"frame_size": (64,)}, "frame_size"),
        ({"frame_size": "64x"}, "frame_size"),
        ({"frame_size": (64, 16)}, "frame_size"),
        ({"frame_size": (64.0, 64)}, "frame_size"),
    ],
)
def test_views_that_cannot_be_are_refused_by_name(settings, named):
    with pytest.raises(TaskError, match=named):
        MujocoEnv("InvertedPendulum-v5", **settings)


def test_what_is_logged_has_every_view(run):
    task = load_task(run / "data")
    assert [view.name for view in task.views] == ["front", "slant"] and task.frame_shape == (64, 192, 3)
    episode = load_episodes(run / "data")[0]
    front, slant = task.split(episode.frames).values()
    assert front.shape == slant.shape == (len(episode.actions) + 1, 64, 96, 3)
    assert not np.array_equal(front, slant) and (front != front[0]).any() and (slant != slant[0]).any()


def test_a_log_may_have_another_name_than_what_simulates_it(run):
    model = open_model(run, None, "cpu")
    model = dataclasses.replace(model, task=dataclasses.replace(model.task, id="my-cart"))
    for named in (None, "my-cart", "InvertedPendulum-v5"):
        twin = gym.make("procosm.envs:Procosm/Truth-v0", checkpoint=model, task=named, observation="latent")
        assert twin.unwrapped.task.id == "my-cart" and twin.reset(seed=0)[0].shape == (3, 4, 8, 24)
        twin.close()


@pytest.mark.parametrize("observation", ["pixels", ("pixels", "latent", "state")])
def test_dream_and_twin_show_the_same_views(run, observation):
    dream = gym.make("procosm.envs:Procosm/World-v0", checkpoint=run, observation=observation)
    twin = gym.make("procosm.envs:Procosm/Truth-v0", checkpoint=run, observation=observation)
    batch = gym.make_vec("procosm.envs:Procosm/World-v0", 3, checkpoint=run, observation=observation)
    assert dream.observation_space == twin.observation_space == batch.single_observation_space
    assert batch.observation_space == batch_space(dream.observation_space, 3)
    pixels = dream.observation_space if observation == "pixels" else dream.observation_space["pixels"]
    assert {name: space.shape for name, space in pixels.items()} == {"front": (64, 96, 3), "slant": (64, 96, 3)}
    for env in (dream, twin, batch):
        seen, _ = env.reset(seed=0)
        assert env.observation_space.contains(seen)
        for _ in range(3):
            seen = env.step(env.action_space.sample())[0]
            assert env.observation_space.contains(seen)
        shown = seen if observation == "pixels" else seen["pixels"]
        one = {name: part[0] if env is batch else part for name, part in shown.items()}
        joined = dream.unwrapped.task.join(one)
        assert joined.shape == (64, 192, 3)
        if env is dream:
            frame = gym.make("procosm.envs:Procosm/World-v0", checkpoint=run, render_mode="rgb_array").unwrapped
            assert np.array_equal(joined, dream.unwrapped.dreams.frames()[0]) and frame.render_mode == "rgb_array"
        env.close()


def test_dreams_that_end_begin_again_in_every_view(run):
    batch = gym.make_vec(
        "procosm.envs:Procosm/World-v0", 3, checkpoint=run, max_episode_steps=2, autoreset_mode="SAME_STEP"
    )
    batch.reset(seed=0)
    batch.step(np.zeros((3, 1), np.float32))
    seen, _, _, cuts, infos = batch.step(np.zeros((3, 1), np.float32))
    assert cuts.all() and batch.observation_space.contains(seen)
    final = infos["final_obs"][1]
    assert batch.single_observation_space.contains(final)
    assert not all(np.array_equal(seen[name][1], final[name]) for name in seen)


def test_a_twin_with_other_views_is_refused(run):
    model = open_model(run, None, "cpu")
    for other in ({"frame_size": 64}, {"cameras": {"front": None}}, {"cameras": {"slant": SLANT, "front": None}}):
        with pytest.raises(TaskError, match="does not show the frames"):
            PerceiveWrapper(MujocoEnv.from_task(model.task, **other), model)


def test_both_worlds_are_played_side_by_side(run):
    pair = Pair(open_model(run, None, "cpu"), denoising_steps=1, horizon=50)
    scene = pair.begin(0)
    scene = pair.step(scene, Actions(np.ones(1, np.float32), np.ones(1, np.float32)), hold=1)
    assert scene.dream.frame.shape == scene.truth.frame.shape == (64, 192, 3)
    pair.close()
