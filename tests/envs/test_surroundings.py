"""An environment leaves the process as it was, and is the same whatever the process has set."""

import dataclasses
import random
from collections.abc import Callable, Iterator

import gymnasium as gym
import numpy as np
import pytest
import torch

from procosm.envs.dreams.weights import SHIPPED
from procosm.envs.trust.trust import Forecasts
from procosm.world_model.checkpoint import load, save

EVERYTHING = ("pixels", "latent", "state")


def dream(checkpoint, steps: int = 3, **options) -> list[np.ndarray]:
    """All that a single and a batched dream show, one after the other."""
    single = gym.make("procosm.envs:Procosm/World-v0", checkpoint=checkpoint, observation=EVERYTHING, **options)
    batch = gym.make_vec(
        "procosm.envs:Procosm/World-v0", num_envs=3, checkpoint=checkpoint, observation=EVERYTHING, **options
    )
    shown: list[np.ndarray] = []
    for env in (single, batch):
        observed, info = env.reset(seed=5)
        shown += [*observed.values(), info["state"]]
        for _ in range(steps):
            observed, reward, _, _, info = env.step(env.action_space.low / 2)
            assert observed in env.observation_space
            shown += [*observed.values(), np.asarray(reward), info["state"], np.asarray(info.get("trust", 0))]
        env.close()
    return shown


@pytest.fixture
def default_dtype() -> Iterator[Callable[[torch.dtype], None]]:
    """Sets torch's default dtype for a test."""
    yield torch.set_default_dtype
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("options", [{}, {"denoising_steps": 3}], ids=str)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_dreams_keep_every_bit_under_another_default_dtype(default_dtype, dtype, options):
    shipped = SHIPPED / "InvertedPendulum"
    expected = dream(shipped, **options)
    default_dtype(dtype)
    for ours, theirs in zip(dream(shipped, **options), expected, strict=True):
        assert ours.dtype == theirs.dtype and np.array_equal(ours, theirs)


def test_mixed_products_work_under_another_default_dtype(default_dtype, tiny_checkpoint):
    default_dtype(torch.float64)
    env = gym.make_vec("procosm.envs:Procosm/World-v0", 2, checkpoint=tiny_checkpoint, mixed=True)
    env.reset(seed=0)
    assert env.step(env.action_space.low)[0] in env.observation_space


def test_a_twin_is_seen_alike_under_another_default_dtype(default_dtype, truth_checkpoint):
    def shown() -> list[np.ndarray]:
        env = gym.make("procosm.envs:Procosm/Truth-v0", checkpoint=truth_checkpoint, observation=("latent", "state"))
        seen = [*env.reset(seed=0)[0].values(), *env.step(env.action_space.low)[0].values()]
        env.close()
        return seen

    expected = shown()
    default_dtype(torch.float64)
    assert all(np.array_equal(*pair) for pair in zip(shown(), expected, strict=True))


def test_a_model_in_double_precision_dreams_in_it_and_shows_single(tiny_checkpoint, tmp_path):
    """Trained under ``torch.set_default_dtype(torch.float64)``, opened without it."""
    model = load(tiny_checkpoint)
    tokenizer, dynamics = model.tokenizer.double(), model.dynamics.double()
    double = dataclasses.replace(model, tokenizer=tokenizer, dynamics=dynamics, starts=model.starts.double())
    folder = save(tmp_path / "double", double)
    assert load(folder).starts.dtype == load(folder).dynamics.net.cos.dtype == torch.float64
    for options in ({}, {"denoising_steps": 2}):
        for single, twice in zip(dream(tiny_checkpoint, **options), dream(folder, **options), strict=True):
            assert single.dtype == twice.dtype
            if single.dtype == np.uint8:
                assert np.abs(single.astype(int) - twice).max() <= 1
            else:
                np.testing.assert_allclose(single, twice, rtol=1e-3, atol=1e-4)


def generators() -> list:
    """States of every global generator."""
    name, words, *rest = np.random.get_state()
    return [random.getstate(), name, words.tolist(), rest, torch.get_rng_state().tolist()]


def flags() -> list:
    """What else is global."""
    return [
        torch.get_default_dtype(),
        torch.get_default_device(),
        torch.get_num_threads(),
        torch.get_num_interop_threads(),
        torch.get_float32_matmul_precision(),
        torch.are_deterministic_algorithms_enabled(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        torch.backends.cudnn.benchmark,
        torch.backends.cudnn.deterministic,
        np.geterr(),
        np.get_printoptions(),
    ]


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.iterdir()))
def test_neither_dream_nor_twin_moves_a_global_generator_or_flag(name):
    torch.manual_seed(3)
    np.random.seed(3)
    random.seed(3)
    before = generators(), flags()
    for denoising_steps in (1, 2):
        dream(SHIPPED / name, denoising_steps=denoising_steps)
        assert (generators(), flags()) == before
    for options in ({"task": f"{name}-v5"}, {"checkpoint": SHIPPED / name, "observation": "state"}):
        env = gym.make("procosm.envs:Procosm/Truth-v0", **options)
        for seed in (None, 1):
            env.reset(seed=seed)
        env.step(env.action_space.low)
        env.close()
        assert (generators(), flags()) == before


def test_trust_draws_nothing():
    made = Forecasts(2, 3, 1, 8).state_dict()
    torch.manual_seed(0)
    before = torch.get_rng_state()
    again = Forecasts.from_tensors(made)
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(again.state_dict()[key], made[key]) for key in made)
