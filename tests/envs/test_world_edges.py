"""What a dream does at its edges: settings of its own, infos of one kind, any seed, copies, and calls out of order."""

import copy
import dataclasses
import inspect
import pickle
import re

import gymnasium as gym
import numpy as np
import pytest
import torch

from procosm.envs.dreams.world import WorldModelEnv
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
from procosm.envs.trust.trust import Forecasts
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.errors import TaskError

KINDS = ("pixels", "latent", "state")
MAKERS = [WorldModelEnv, lambda model, **options: WorldModelVectorEnv(model, 2, **options)]
makers = pytest.mark.parametrize("make", MAKERS, ids=["single", "vector"])


@pytest.fixture
def trusted(linear_world) -> WorldModel:
    """The linear world with forecasts of its two state numbers, unfitted."""
    forecasts = Forecasts(2, 2, 1, 4)
    for name in ("std", "change", "high", "bound", "calibration"):
        getattr(forecasts, name).fill_(1.0)
    forecasts.low.fill_(-1.0)
    return dataclasses.replace(linear_world, trust={k: v.detach() for k, v in forecasts.state_dict().items()})


def zero(env) -> np.ndarray:
    return np.zeros(env.action_space.shape, np.float32)


def test_both_environments_take_the_same_options():
    single, vector = (inspect.signature(kind.__init__).parameters for kind in (WorldModelEnv, WorldModelVectorEnv))
    assert set(vector) - set(single) == {"num_envs", "autoreset_mode"} and set(single) <= set(vector)
    for name, parameter in single.items():
        assert (parameter.default, parameter.annotation) == (vector[name].default, vector[name].annotation), name


def test_gym_make_and_make_vec_take_every_option(trusted):
    options = {
        "observation": KINDS, "denoising_steps": 2, "max_episode_steps": 5, "render_mode": "rgb_array", "device": "cpu",
        "starts": "wide", "mixed": True, "trust_below": 0.0, "checkpoint": trusted, "name": None, "reward": None,
        "sampling": {"solver": "euler"},
    }  # fmt: skip
    assert set(options) == set(inspect.signature(WorldModelEnv.__init__).parameters) - {"self"}
    for env in (
        gym.make("procosm.envs:Procosm/World-v0", **options),
        gym.make_vec("Procosm/World-v0", 2, **options),
        gym.make_vec("Procosm/World-v0", 2, vectorization_mode="sync", **options),
    ):
        observed, _ = env.reset(seed=0)
        assert observed in env.observation_space and env.spec.kwargs.get("mixed", True) is True
        env.step(zero(env))
        env.close()


@pytest.mark.parametrize("denoising_steps", [1, 2])
def test_products_in_bfloat16_are_one_environments_own(tiny_checkpoint, denoising_steps):
    model = load(tiny_checkpoint)

    def dream(**options) -> list[np.ndarray]:
        shown = []
        for make in MAKERS:
            env = make(model, observation=KINDS, denoising_steps=denoising_steps, **options)
            shown += [*env.reset(seed=0)[0].values(), *env.step(zero(env))[0].values()]
        return shown

    plain, before = dream(), WorldModelEnv(model, observation="latent")
    started = before.reset(seed=1)[0]
    mixed = dream(mixed=True)
    assert not (model.dynamics.mixed or model.tokenizer.mixed)
    assert all(np.array_equal(*pair) for pair in zip(plain, dream(), strict=True))
    assert not all(np.array_equal(*pair) for pair in zip(plain, mixed, strict=True)), "products were coarser"
    alone = WorldModelEnv(load(tiny_checkpoint), observation="latent")
    assert np.array_equal(alone.reset(seed=1)[0], started)
    assert np.array_equal(alone.step(zero(alone))[0], before.step(zero(before))[0])
    own = WorldModelEnv(model, mixed=True).dreams.model
    assert own.dynamics.net.patch_in.weight is model.dynamics.net.patch_in.weight, "the weights are shared"
    model.dynamics.mixed = True  # a model that the user has set so stays so, whatever environments ask for
    assert WorldModelEnv(model).dreams.model.dynamics.mixed and not model.tokenizer.mixed


def kinds(info: dict, prefix: str = "") -> dict[str, tuple]:
    """Dtype and shape of everything in an info, all of which must have them."""
    found = {}
    for key, value in info.items():
        if isinstance(value, dict):
            found |= kinds(value, f"{prefix}{key}.")
        else:
            assert isinstance(value, np.ndarray | np.generic), (prefix + key, type(value))
            found[prefix + key] = (value.dtype, value.shape)
    return found


def test_infos_are_numpys_and_of_one_kind_on_reset_and_step(trusted):
    float32, int64, flag = np.dtype(np.float32), np.dtype(np.int64), np.dtype(bool)
    env = WorldModelEnv(trusted)
    expected = {"state": (float32, (2,)), "start": (int64, ()), "trust": (float32, ())}
    assert kinds(env.reset(seed=0)[1]) == kinds(env.step(zero(env))[4]) == expected
    batched = {key: (dtype, (3, *shape)) for key, (dtype, shape) in expected.items()}
    batched |= {f"_{key}": (flag, (3,)) for key in expected}
    for mode in ("NEXT_STEP", "SAME_STEP", "DISABLED"):
        vector = WorldModelVectorEnv(trusted, 3, max_episode_steps=2, autoreset_mode=mode)
        loop = gym.vector.SyncVectorEnv(
            [lambda: WorldModelEnv(trusted, max_episode_steps=2)] * 3, autoreset_mode=vector.autoreset_mode
        )
        assert kinds(vector.reset(seed=0)[1]) == kinds(loop.reset(seed=0)[1]) == batched
        for step in range(2 if mode == "DISABLED" else 5):
            infos, theirs = (kinds(each.step(zero(each))[4]) for each in (vector, loop))
            assert infos == theirs, (mode, step)
            assert batched.items() <= infos.items()
            if mode == "SAME_STEP" and step in (1, 3):
                assert {f"final_info.{key}": value for key, value in batched.items()}.items() <= infos.items()
    mask = np.array([True, False, True])
    assert kinds(vector.reset(options={"reset_mask": mask})[1]) == batched


SEEDS = [0, 1, 2**31, 2**32, 2**40, 2**63 - 1, 2**63, 2**64]


@makers
def test_any_seed_that_gymnasium_takes(linear_world, make):
    env = make(linear_world, observation="latent")
    seen = [env.reset(seed=seed)[1]["start"] for seed in SEEDS]
    for seed, start in zip(SEEDS, seen, strict=True):
        for kind in (np.int64, np.uint64, np.int32, np.uint8):
            if seed <= np.iinfo(kind).max:
                assert np.array_equal(env.reset(seed=kind(seed))[1]["start"], start)
    for wrong in (-1, 1.5, "1", np.float64(1), -(2**70), [-1, 0], [1.0, 2], [1], {"a": 1}):
        with pytest.raises(TaskError, match="seed"):
            env.reset(seed=wrong)


def test_slots_take_a_list_of_seeds_of_any_kind(linear_world):
    env = WorldModelVectorEnv(linear_world, 3, "latent")
    expected = env.reset(seed=2**63)[0]
    for seeds in ([2**63 + slot for slot in range(3)], np.array([2**63, 2**63 + 1, 2**63 + 2], np.uint64)):
        assert np.array_equal(env.reset(seed=seeds)[0], expected)
    assert np.array_equal(env.reset(seed=(None, np.int64(4), None))[0][1], env.reset(seed=[4, 4, 4])[0][1])


WRONG_OPTIONS = [
    {"start": value} for value in (11, -1, 1.5, "1", "abc", True, 10**30, np.float32(2), np.nan, object(), {"a": 1})
] + [{"begin": 1}, {1: 2}, [("start", 1)], 5, "start"]


@makers
@pytest.mark.parametrize("options", WRONG_OPTIONS, ids=lambda options: re.sub("0x[0-9a-f]+", "", str(options)))
def test_wrong_options_are_our_error_and_change_nothing(linear_world, make, options):
    env, other = (make(linear_world, observation="latent") for _ in range(2))
    for each in (env, other):
        each.reset(seed=0)
    with pytest.raises(TaskError, match="start"):
        env.reset(seed=1, options=options)
    for each in (env, other):
        each.seen = [each.step(zero(each))[0], each.reset()[0], each.step(zero(each))[0]]
    assert all(np.array_equal(*pair) for pair in zip(env.seen, other.seen, strict=True))


@pytest.mark.parametrize(
    "options", [{"start": [1, 2, 3]}, {"start": [1.5, 2]}, {"start": ["a", "b"]}, {"reset_mask": None}]
    + [{"reset_mask": mask} for mask in (1, "ab", np.ones(3, bool), np.ones(2, int), [True, True])], ids=str,
)  # fmt: skip
def test_wrong_options_of_slots_are_our_error(linear_world, options):
    env = WorldModelVectorEnv(linear_world, 2)
    env.reset(seed=0)
    with pytest.raises(TaskError, match=next(iter(options))):
        env.reset(options=options)


@makers
def test_start_windows_are_whole_numbers_of_any_kind(linear_world, make):
    env = make(linear_world)
    for start in (3, np.int64(3), np.uint8(3), np.array(3)):
        assert np.all(env.reset(options={"start": start})[1]["start"] == 3)


@makers
@pytest.mark.parametrize("way", ["deepcopy", "pickle"])
@pytest.mark.parametrize("denoising_steps", [1, 3])
def test_a_copy_dreams_on_as_the_original_does(tiny_checkpoint, make, way, denoising_steps):
    env = make(tiny_checkpoint, observation=KINDS, denoising_steps=denoising_steps, max_episode_steps=4)
    env.reset(seed=7)
    env.step(zero(env))
    twin = copy.deepcopy(env) if way == "deepcopy" else pickle.loads(pickle.dumps(env))
    assert (twin.dreams.model is env.dreams.model) == (way == "deepcopy")
    moves = np.random.default_rng(0).uniform(-1, 1, (5, *env.action_space.shape)).astype(np.float32)
    ours = [env.step(move) for move in moves] + [(*env.reset(),)]
    theirs = [twin.step(move) for move in moves] + [(*twin.reset(),)]
    for mine, other in zip(ours, theirs, strict=True):
        for kind in KINDS:
            assert np.array_equal(mine[0][kind], other[0][kind])
        assert all(np.array_equal(*pair) for pair in zip(mine[1:-1], other[1:-1], strict=True))


def test_what_gym_makes_can_be_copied(tiny_checkpoint):
    env = gym.make("procosm.envs:Procosm/World-v0", checkpoint=tiny_checkpoint, observation="state")
    env.reset(seed=0)
    for twin in (copy.deepcopy(env), pickle.loads(pickle.dumps(env))):
        assert twin.spec == env.spec
        assert np.array_equal(copy.deepcopy(env).step(zero(env))[0], twin.step(zero(env))[0])


@makers
def test_closed_twice_and_stepped_after(linear_world, make):
    env = make(linear_world, render_mode="rgb_array")
    for call in (lambda: env.step(zero(env)), env.render):
        with pytest.raises(TaskError, match="reset"):
            call()
    env.reset(seed=0)
    env.close()
    env.close()
    for call in (lambda: env.step(zero(env)), env.render):
        with pytest.raises(TaskError, match="closed"):
            call()
    if isinstance(env, WorldModelEnv):
        env.reset(seed=0)
        env.step(zero(env))
    else:
        with pytest.raises(TaskError, match="closed"):
            env.reset()


@makers
def test_wrong_actions_are_our_error_and_change_nothing(linear_world, make):
    env, other = (make(linear_world, observation="latent") for _ in range(2))
    for each in (env, other):
        each.reset(seed=0)
    shape = env.action_space.shape
    for action in (
        np.full(shape, np.nan),
        np.full(shape, -np.inf),
        np.zeros((*shape, 1)),
        0.0,
        None,
        "up",
        [[], []],
        {},
    ):
        with pytest.raises(TaskError, match="action"):
            env.step(action)
    assert np.array_equal(env.step(zero(env))[0], other.step(zero(env))[0])
    assert torch.equal(env.dreams.latents, other.dreams.latents)
