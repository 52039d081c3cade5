"""Dreams that begin after given frames, told or not what was done between them."""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch

from procosm.envs.dreams.world import WorldModelEnv
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
from procosm.world_model import checkpoint
from procosm.world_model.checkpoint import load
from procosm.world_model.errors import CheckpointError, TaskError
from procosm.world_model.interface import Condition


def begun(model, frames, actions=None):
    """What the dynamics is begun with, written out: (1, context, c, h, w) latents, and what is known of the actions."""
    context = model.dynamics.context
    index = np.maximum(np.arange(len(frames) - context, len(frames)), 0)
    latents = torch.stack([model.tokenizer.encode(torch.from_numpy(frames[i])[None, None])[0, 0] for i in index])
    if actions is None:
        return latents[None], None
    known = np.full((context - 1, actions.shape[1]), np.nan, np.float32)
    count = min(len(actions), context - 1)
    known[len(known) - count :] = actions[len(actions) - count :]
    return latents[None], Condition(actions=torch.from_numpy(known)[None])


@pytest.fixture(scope="module")
def moved(truth_env):
    """Frames of MuJoCo under random actions, and those."""

    def move(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        rng, frames, actions = np.random.default_rng(seed), [truth_env.reset(seed=seed)[0]], []
        for _ in range(count - 1):
            actions.append(rng.uniform(-1, 1, truth_env.action_space.shape).astype(np.float32))
            frames.append(truth_env.step(actions[-1])[0])
        return np.stack(frames), np.reshape(np.array(actions, np.float32), (count - 1, -1 if actions else 1))

    return move


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize("told", [True, False])
def test_a_dream_after_given_frames_is_the_dynamics_begun_with_them(truth_checkpoint, moved, count, told):
    model = load(truth_checkpoint)
    frames, actions = moved(count)
    env = WorldModelEnv(model, observation=("pixels", "latent"))
    shown, info = env.reset(seed=3, options={"frames": frames, **({"actions": actions} if told else {})})
    latents, condition = begun(model, frames, actions if told and count > 1 else None)
    np.testing.assert_allclose(shown["latent"], latents[0].numpy(), rtol=1e-5, atol=1e-6)
    assert info["start"] == -1
    act = np.full(env.action_space.shape, 0.3, np.float32)
    _, expected = model.dynamics.step(model.dynamics.begin(latents, condition), torch.from_numpy(act)[None])
    found = env.step(act)[0]["latent"][-1]
    np.testing.assert_allclose(found, expected.latents[0].numpy(), rtol=1e-4, atol=1e-5)


def test_what_was_done_before_matters_to_the_first_step(truth_checkpoint, moved):
    frames, actions = moved(4)
    env, after = WorldModelEnv(truth_checkpoint, observation="latent"), []
    for known in (actions, -actions, np.full_like(actions, np.nan), None):
        env.reset(seed=0, options={"frames": frames} | ({} if known is None else {"actions": known}))
        after.append(env.step(env.action_space.high)[0])
    assert not np.array_equal(after[0], after[1]) and not np.array_equal(after[0], after[2])
    np.testing.assert_array_equal(after[2], after[3], "NaN is an action nobody knows")


def test_a_slot_of_many_dreams_as_one_does_and_the_others_stay(truth_checkpoint, moved):
    frames, actions = (np.stack(part) for part in zip(*[moved(3, seed) for seed in range(4)], strict=True))
    many = WorldModelVectorEnv(truth_checkpoint, num_envs=4, observation="latent", autoreset_mode="DISABLED")
    before, _ = many.reset(seed=0)
    mask = np.array([False, True, False, True])
    shown, info = many.reset(options={"frames": frames, "actions": actions, "reset_mask": mask})
    np.testing.assert_array_equal(shown[~mask], before[~mask])
    assert (info["start"][mask] == -1).all() and (many.dreams.start[~mask] >= 0).all()
    one = WorldModelEnv(truth_checkpoint, observation="latent")
    for slot in (1, 3):
        alone, _ = one.reset(seed=0, options={"frames": frames[slot], "actions": actions[slot]})
        np.testing.assert_allclose(shown[slot], alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (lambda f, a: {"actions": a}, "give these, too"),
        (lambda f, a: {"frames": f, "start": 0}, "leave out one"),
        (lambda f, a: {"frames": f.astype(np.float32)}, "give uint8"),
        (lambda f, a: {"frames": f[:0]}, "t at least 1"),
        (lambda f, a: {"frames": f[:, :5]}, "give uint8"),
        (lambda f, a: {"frames": "x"}, "array of numbers"),
        (lambda f, a: {"frames": {"side": f}}, "views"),
        (lambda f, a: {"frames": f, "actions": a[:-1]}, "one fewer"),
        (lambda f, a: {"frames": f, "actions": np.full_like(a, np.inf)}, "finite"),
        (lambda f, a: {"frames": f, "actions": [["x"]]}, "array of numbers"),
    ],
)
def test_frames_and_actions_that_do_not_fit_are_refused(truth_checkpoint, options, message):
    env = WorldModelEnv(truth_checkpoint)
    frames = np.zeros((3, *env.task.frame_shape), np.uint8)
    given = options(frames, np.zeros((2, len(env.task.action_low)), np.float32))
    with pytest.raises(TaskError, match=message):
        env.reset(options=given)
    with pytest.raises(TaskError):
        gym.make_vec("procosm.envs:Procosm/World-v0", num_envs=2, checkpoint=env.dreams.model).reset(options=given)


def test_start_windows_know_what_was_done_and_a_checkpoint_keeps_it(truth_checkpoint, tmp_path):
    model = load(truth_checkpoint)
    shape = len(model.starts), model.dynamics.context - 1, len(model.task.action_low)
    done = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    done[0, 0] = torch.nan
    again = load(checkpoint.save(tmp_path / "knowing", dataclasses.replace(model, start_actions=done)))
    torch.testing.assert_close(again.start_actions, done, equal_nan=True, rtol=0, atol=0)
    after = []
    for each in (model, again):
        env = WorldModelEnv(each, observation="latent", starts="wide")
        env.reset(seed=0, options={"start": 0})
        after.append(env.step(env.action_space.high)[0])
    assert not np.array_equal(*after)
    for broken, message in ((done.where(~done.isnan(), torch.inf), "actions holds"), (done[1:], "begins with")):
        with pytest.raises(CheckpointError, match=message):
            load(checkpoint.save(tmp_path / "broken", dataclasses.replace(model, start_actions=broken)))
