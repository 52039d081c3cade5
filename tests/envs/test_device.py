"""Dreams on a device: on one that is none everywhere (tests.elsewhere), on a real one where there is one."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from procosm.envs.dreams.observe import Observation
from procosm.envs.dreams.perceive import Eyes, PerceiveWrapper
from procosm.envs.dreams.world import WorldModelEnv
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
from procosm.envs.trust import calibrate
from procosm.envs.trust.trust import Forecasts
from procosm.world_model.checkpoint import load, save
from procosm.world_model.errors import ProcosmError
from tests.elsewhere import elsewhere

NO_GPU = not torch.cuda.is_available()
KINDS = ("pixels", "latent", "state")


@pytest.fixture
def checkpoint(truth_checkpoint, tmp_path) -> Path:
    """An untrained world in which everything counts, with forecasts that tell some trust."""
    model = load(truth_checkpoint)
    torch.manual_seed(0)
    for p in model.dynamics.parameters():
        p.add_(0.05 * torch.randn_like(p))
    forecasts = Forecasts(calibrate.MEMBERS, model.task.state_size, len(model.task.action_low), 16)
    for name, value in {"std": 1.0, "change": 0.1, "low": -3.0, "high": 3.0, "bound": 0.5}.items():
        getattr(forecasts, name).fill_(value)
    forecasts.calibration.copy_(torch.tensor([1.0, 0.0, 0.5]))
    return save(tmp_path / "world_model", dataclasses.replace(model, trust=forecasts.state_dict()))


def dreamed(checkpoint: Path, device: str, **options) -> list[np.ndarray]:
    """All that a batch of short dreams shows in a few steps, resets included."""
    settings = {"observation": KINDS, "max_episode_steps": 3, "autoreset_mode": "SAME_STEP", **options}
    env = WorldModelVectorEnv(checkpoint, 3, device=device, **settings)
    rng, found = np.random.default_rng(0), []
    observed, infos = env.reset(seed=1)
    for _ in range(5):
        found += [*observed.values(), infos["state"], infos["trust"]]
        observed, rewards, ends, cuts, infos = env.step(rng.uniform(-3, 3, (3, 1)).astype(np.float32))
        found += [rewards, ends, cuts]
    assert all(isinstance(values, np.ndarray) for values in found)
    return found


def assert_alike(ours: list[np.ndarray], theirs: list[np.ndarray]) -> None:
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype and a.shape == b.shape
        if a.dtype == np.uint8:  # a colour may round to its neighbour
            assert np.abs(a.astype(int) - b.astype(int)).max() <= 1
        else:
            np.testing.assert_allclose(a, b, atol=2e-4, rtol=2e-4)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_batch_of_dreams_stays_on_its_device(checkpoint, steps):
    here = dreamed(checkpoint, "cpu", denoising_steps=steps)
    with elsewhere():
        there = dreamed(checkpoint, "auto", denoising_steps=steps)
    assert_alike(there, here)


def test_a_step_of_dreams_waits_thrice_whatever_their_number(checkpoint):
    """To send the actions, for the numbers, and for the observation."""
    for count in (2, 9):
        with elsewhere() as device:
            env = WorldModelVectorEnv(checkpoint, count, observation="latent", device="cuda")
            env.reset(seed=0)
            before = len(device.waits)
            env.step(np.zeros((count, 1), np.float32))
            assert len(device.waits) - before == 3


def test_one_dream_its_moments_and_what_looks_at_frames_stay_on_their_device(checkpoint, truth_env):
    def seen(device: str) -> list[np.ndarray]:
        env = WorldModelEnv(checkpoint, KINDS, device=device)
        observed, _ = env.reset(seed=3)
        moment = env.dreams.moment(0)
        env.step(np.ones(1, np.float32))
        env.dreams.resume(0, moment)
        again = env.step(np.ones(1, np.float32))[0]
        eyes = Eyes(env.dreams.model, Observation.parse("state"), 2)
        frames = np.stack([observed["pixels"], again["pixels"]])
        looked = [eyes.see(np.arange(2), frames, first=True), eyes.see(np.array([1]), frames[1:], first=False)]
        wrapped = PerceiveWrapper(truth_env, checkpoint, ("latent", "state"), device)
        return [*observed.values(), *again.values(), *looked, *wrapped.reset(seed=0)[0].values()]

    here = seen("cpu")
    with elsewhere():
        there = seen("auto")
    assert_alike(there, here)


@pytest.mark.skipif(not NO_GPU, reason="there is a device")
def test_an_environment_on_a_device_that_is_missing_is_refused(checkpoint):
    for make in (WorldModelEnv, WorldModelVectorEnv):
        with pytest.raises(ProcosmError, match="is not here"):
            make(checkpoint, device="cuda")


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("steps", [1, 2])
def test_a_dream_on_cuda_is_the_one_on_the_cpu_to_rounding_and_always_the_same(checkpoint, steps):
    here = dreamed(checkpoint, "cpu", denoising_steps=steps)
    there, again = (dreamed(checkpoint, "cuda", denoising_steps=steps) for _ in range(2))
    assert_alike(there, here)
    assert all(np.array_equal(a, b) for a, b in zip(there, again, strict=True))


@pytest.mark.gpu
@pytest.mark.skipif(NO_GPU, reason="needs a CUDA device")
@pytest.mark.parametrize("mixed", [False, True])
def test_recorded_steps_are_those_that_were_not(checkpoint, mixed, monkeypatch):
    """A long dream is recorded from its second step on; the same without recording."""

    def run() -> list[np.ndarray]:
        return dreamed(checkpoint, "cuda", mixed=mixed, max_episode_steps=100)

    recorded = run()
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert_alike(recorded, run())
