"""A truth env seen through a model: the same numbers as encoding its frames by hand."""

import warnings
from dataclasses import asdict, replace

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.vec_env import DummyVecEnv

from procosm.envs.dreams.perceive import PerceiveWrapper
from procosm.envs.dreams.world import WorldModelEnv
from procosm.world_model.checkpoint import load
from procosm.world_model.data.task import View
from procosm.world_model.errors import CheckpointError, TaskError

EVERYTHING = ("pixels", "latent", "state")


class Parade(gym.Env):
    """Shows given frames in turn; stands for a truth env whose frames can be computed by hand."""

    def __init__(self, task, frames):
        self.task, self.frames = task, frames
        self.observation_space = gym.spaces.Box(0, 255, frames.shape[1:], np.uint8)
        self.action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.shown = 0
        return self.frames[0], {"state": np.zeros(2)}

    def step(self, action):
        self.shown += 1
        return self.frames[self.shown], 1.5, False, self.shown == len(self.frames) - 1, {"state": np.ones(2)}


def parade(world, task=None) -> tuple[Parade, np.ndarray]:
    """A parade of six grey frames with quarters of known brightness, and the latents (6, 4) they must become."""
    latents = np.random.default_rng(0).integers(-60, 60, (6, 4)) / 20
    grey = np.round(latents * 20 + 128).astype(np.uint8).reshape(6, 2, 2)
    frames = grey.repeat(20, 1).repeat(20, 2)[..., None].repeat(3, 3)
    return Parade(task or world.task, frames), latents


def test_latents_and_state_are_read_off_the_frames(linear_world):
    env, latents = parade(linear_world)
    seen = PerceiveWrapper(env, linear_world, EVERYTHING)
    observed, info = seen.reset(seed=0)
    memory = [latents[0]] * 3
    for step in range(6):
        if step:
            observed, reward, _, truncated, info = seen.step(np.zeros(1))
            memory = [*memory[1:], latents[step]]
            assert reward == 1.5 and truncated == (step == 5)
        assert observed in seen.observation_space
        np.testing.assert_array_equal(observed["pixels"], env.frames[step])
        np.testing.assert_allclose(observed["latent"].reshape(3, 4), memory, atol=1e-5)
        np.testing.assert_allclose(observed["state"], [memory[2][0], memory[2][0] - memory[1][0]], atol=1e-5)
        assert info["state"].tolist() == [float(step > 0)] * 2, "info keeps the true state"
    again, _ = seen.reset()
    np.testing.assert_allclose(again["latent"].reshape(3, 4), [latents[0]] * 3, atol=1e-5)


def test_spaces_equal_the_dreams(linear_world):
    env, _ = parade(linear_world)
    for observation in (*EVERYTHING, EVERYTHING, ("state",)):
        seen, dream = PerceiveWrapper(env, linear_world, observation), WorldModelEnv(linear_world, observation)
        assert (seen.observation_space, seen.action_space) == (dream.observation_space, dream.action_space)


def test_the_encoder_reads_pixels_out_of_a_dict_too(linear_world):
    env, latents = parade(linear_world)
    both = gym.wrappers.TransformObservation(
        env,
        lambda pixels: {"pixels": pixels, "state": np.zeros(2)},
        gym.spaces.Dict(pixels=env.observation_space, state=gym.spaces.Box(-1, 1, (2,))),
    )
    observed, _ = PerceiveWrapper(both, linear_world, ("latent", "pixels")).reset()
    np.testing.assert_allclose(observed["latent"].reshape(3, 4)[2], latents[0], atol=1e-5)
    assert np.array_equal(observed["pixels"], env.frames[0])


@pytest.mark.parametrize(
    "other",
    [
        {"id": "Other-v0"},
        {"views": (View("main", 64, 64),)},
        {"action_repeat": 2},
        {"renderer": "raycast"},
        {"version": 2},
        {"cameras": {"main": {}}},
    ],
)
def test_frames_the_model_did_not_learn_are_refused(linear_world, other):
    task = linear_world.task
    known = {name: value for name, value in other.items() if hasattr(task, name)}
    twin = {name: value for name, value in other.items() if name not in known}
    env, _ = parade(linear_world, replace(task, **known, twin=replace(task.twin, **twin)))
    with pytest.raises(TaskError, match=f"{next(iter(other))} is"):
        PerceiveWrapper(env, linear_world)


def test_an_env_without_pixels_and_a_missing_checkpoint_are_refused(linear_world, tmp_path):
    env, _ = parade(linear_world)
    blind = gym.wrappers.TransformObservation(env, lambda _: np.zeros(2), gym.spaces.Box(-1, 1, (2,)))
    with pytest.raises(TaskError, match="must observe pixels"):
        PerceiveWrapper(blind, linear_world)
    with pytest.raises(CheckpointError, match="procosm run"):
        PerceiveWrapper(env, tmp_path)


def test_mujoco_through_a_real_tokenizer(truth_env, truth_checkpoint):
    """Beside the truth env itself: the same physics, and latents equal to encoding its frames at once."""
    model = load(truth_checkpoint)
    seen = gym.make(
        "Procosm/InvertedPendulumTruth-v0", checkpoint=str(truth_checkpoint), observation=("latent", "state", "pixels")
    )
    frame, _ = truth_env.reset(seed=7)
    frames, (observed, info) = [frame] * 3, seen.reset(seed=7)
    rng = np.random.default_rng(0)
    for _ in range(4):
        stack = torch.from_numpy(np.stack(frames[-3:]))
        latents = model.tokenizer.encode(stack[:, None])[:, 0]
        np.testing.assert_array_equal(observed["pixels"], frames[-1])
        np.testing.assert_allclose(observed["latent"], latents, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(observed["state"], model.read("state", latents[None])[0], rtol=1e-3, atol=1e-3)
        assert observed in seen.observation_space
        action = rng.uniform(-1, 1, 1)
        frame, reward, *_, truth_info = truth_env.step(action)
        observed, seen_reward, *_, info = seen.step(action)
        assert reward == seen_reward
        np.testing.assert_array_equal(info["state"], truth_info["state"])
        frames.append(frame)
    seen.close()


def test_it_is_an_ordinary_env(truth_checkpoint):
    def make(checkpoint) -> gym.Env:
        return gym.make("procosm.envs:Procosm/InvertedPendulumTruth-v0", checkpoint=checkpoint, observation="state")

    env = make(str(truth_checkpoint))
    while not isinstance(env, PerceiveWrapper):
        env = env.env
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_env(env, skip_render_check=True)
    recommended = ("infinity", "symmetric and normalized", "different from the unwrapped version")
    assert [str(each.message) for each in caught if not any(text in str(each.message) for text in recommended)] == []
    model = load(truth_checkpoint)  # one model in memory for several environments
    batch = DummyVecEnv([lambda: make(model)] * 2)
    batch.seed(0)
    assert batch.reset().shape == (2, 4)
    for _ in range(3):
        observed, _, _, infos = batch.step(np.zeros((2, 1), np.float32))
    assert observed.dtype == np.float32 and infos[0]["state"].shape == (4,)
    batch.close()


def test_the_spec_makes_it_again(truth_checkpoint):
    env = gym.make(
        "procosm.envs:Procosm/InvertedPendulumTruth-v0", checkpoint=str(truth_checkpoint), observation="latent"
    )
    spec = gym.envs.registration.EnvSpec.from_json(env.spec.to_json())
    again = gym.make(spec)
    assert np.array_equal(env.reset(seed=1)[0], again.reset(seed=1)[0])
    assert asdict(env.unwrapped.task) == asdict(again.unwrapped.task)
