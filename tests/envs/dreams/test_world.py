"""The single dream: Gymnasium's and SB3's checkers, the spaces of its truth env, and errors that say what to do."""

import json
import pickle
import shutil
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from procosm.envs.dreams.weights import SHIPPED, find_checkpoint
from procosm.envs.dreams.world import WorldModelEnv
from procosm.world_model.errors import CheckpointError, TaskError


def make(checkpoint, **options) -> gym.Env:
    return gym.make("procosm.envs:Procosm/World-v0", checkpoint=str(checkpoint), **options)


@pytest.mark.parametrize("observation", ["pixels", "state", ("pixels", "state")])
@pytest.mark.parametrize("check", [gymnasium_check_env, sb3_check_env])
def test_checkers_have_nothing_to_say_but_that_forces_are_not_normalised(tiny_checkpoint, check, observation):
    env = make(tiny_checkpoint, observation=observation, render_mode="rgb_array")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check(env.unwrapped)
    said = {str(warning.message) for warning in caught}
    normalise = {line for line in said if "symmetric and normalized" in line}
    unbounded = {line for line in said if "observation space m" in line and "infinity" in line}
    assert normalise, "actions are in newtons, from -3 to 3, as in the truth env"
    assert not said - normalise - (unbounded if "state" in observation else set())


def test_spaces_are_the_tasks_own(tiny_checkpoint):
    env = make(tiny_checkpoint, observation=("pixels", "latent", "state"))
    assert env.observation_space == gym.spaces.Dict(
        {
            "pixels": gym.spaces.Box(0, 255, (64, 64, 3), np.uint8),
            "latent": gym.spaces.Box(-np.inf, np.inf, (3, 4, 8, 8), np.float32),
            "state": gym.spaces.Box(-np.inf, np.inf, (4,), np.float32),
        }
    )
    assert env.action_space == gym.spaces.Box(-3, 3, (1,), np.float32)
    observed, info = env.reset(seed=0)
    assert observed in env.observation_space
    np.testing.assert_array_equal(observed["state"], info["state"])
    for _ in range(3):
        observed, reward, terminated, truncated, info = env.step(env.action_space.sample())
        assert observed in env.observation_space
        assert (type(reward), type(terminated), type(truncated)) == (float, bool, bool)
        np.testing.assert_array_equal(observed["state"], info["state"])


def test_dreams_follow_the_recurrence_and_are_cut_off_in_time(linear_world):
    """z' = 0.9 z + B a, solved in closed form for a constant action."""
    env = WorldModelEnv(linear_world, observation="latent", max_episode_steps=12)
    observed, info = env.reset(options={"start": 6})
    z0, push, action = observed[-1].ravel(), np.array([0.5, -0.25, 0.0, 1.0]), 0.1
    assert info["start"] == 6
    for step in range(1, 13):
        observed, reward, terminated, truncated, info = env.step(np.array([action]))
        z = 0.9**step * z0 + push * action * (1 - 0.9**step) / 0.1
        np.testing.assert_allclose(observed[-1].ravel(), z, atol=1e-5)
        assert reward == pytest.approx(np.clip(z.mean(), -0.5, 0.6), abs=1e-5)
        assert terminated == (z[0] > 1.5) and truncated == (step == 12)


def test_pixels_are_the_decoded_latent(linear_world):
    env = WorldModelEnv(linear_world, observation=("pixels", "latent"), render_mode="rgb_array")
    env.reset(seed=1)
    observed = env.step(np.array([0.3]))[0]
    quarters = np.round(observed["latent"][-1, 0] * 20 + 128).astype(np.uint8)
    np.testing.assert_array_equal(observed["pixels"], quarters.repeat(20, 0).repeat(20, 1)[..., None].repeat(3, 2))
    np.testing.assert_array_equal(env.render(), observed["pixels"])
    assert WorldModelEnv(linear_world).render() is None


def test_the_spec_survives_json_and_pickle(tiny_checkpoint):
    env = make(tiny_checkpoint, observation="state", starts=[1, 2])
    first = env.reset(seed=5)[0]
    for spec in (pickle.loads(pickle.dumps(env.spec)), gym.envs.registration.EnvSpec.from_json(env.spec.to_json())):
        assert np.array_equal(gym.make(spec).reset(seed=5)[0], first)


def test_bad_actions_and_calls_are_our_error(linear_world):
    env = WorldModelEnv(linear_world)
    with pytest.raises(TaskError, match="call reset"):
        env.step(np.zeros(1))
    env.reset(seed=0)
    for action in (np.zeros(2), np.float32(0), np.array([np.nan]), "up", None):
        with pytest.raises(TaskError):
            env.step(action)
    with pytest.raises(TaskError, match="windows 0 to 10"):
        env.reset(options={"start": 11})
    with pytest.raises(TaskError, match="'beginning'"):
        env.reset(options={"beginning": 0})


def test_a_run_folder_opens_like_its_checkpoint(tiny_checkpoint):
    assert find_checkpoint(tiny_checkpoint.parent, None) == tiny_checkpoint == find_checkpoint(tiny_checkpoint, None)


def test_missing_checkpoints_say_how_to_get_one(tmp_path):
    with pytest.raises(CheckpointError, match="procosm run --env ID --out DIR"):
        make(tmp_path)
    with pytest.raises(CheckpointError, match="give checkpoint=PATH"):
        gym.make("procosm.envs:Procosm/World-v0")
    with pytest.raises(CheckpointError, match="procosm run --env Nothing --out DIR"):
        WorldModelEnv(name="Nothing")


def test_every_registered_id_dreams_or_says_how_to_train_it():
    names = [
        spec.kwargs["name"]
        for spec in gym.registry.values()
        if spec.namespace == "Procosm" and "name" in spec.kwargs and not spec.name.endswith("Truth")
    ]
    gymnasiums = ["HalfCheetah", "Hopper", "InvertedPendulum", "Pusher", "Reacher", "Walker2d"]
    assert sorted(names) == sorted([*gymnasiums, "Driving", "Gallery", "Tabletop", "Workbench"])
    for name in names:
        if (SHIPPED / name / "config.json").is_file():
            gym.make(f"Procosm/{name}-v0").reset(seed=0)
        else:
            with pytest.raises(CheckpointError, match=f"procosm run --env {name} --out DIR"):
                gym.make(f"Procosm/{name}-v0")


def test_a_checkpoint_of_another_task_is_refused(tiny_checkpoint):
    with pytest.raises(CheckpointError, match="dreams of InvertedPendulum-v5"):
        gym.make("procosm.envs:Procosm/Reacher-v0", checkpoint=str(tiny_checkpoint))
    gym.make("procosm.envs:Procosm/InvertedPendulum-v0", checkpoint=str(tiny_checkpoint))


def spoil_weights(folder):
    path = folder / "dynamics.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def spoil_config(folder):
    path = folder / "config.json"
    path.write_text(path.read_text()[:40])


def spoil_format(folder):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 99}))


@pytest.mark.parametrize(
    "spoil", [spoil_weights, spoil_config, spoil_format, lambda folder: (folder / "starts.safetensors").unlink()]
)
def test_damaged_checkpoints_are_our_error(tiny_checkpoint, tmp_path, spoil):
    folder = shutil.copytree(tiny_checkpoint, tmp_path / "world_model")
    spoil(folder)
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        make(folder)
