"""Trust against a world whose truth is a recurrence: right dreams keep it, wrong ones lose it, and it means what it is.

The linear world of ``conftest``: its state is (first number of z, its change), so the next state is linear in state and
action, and the logged episodes below are computed in NumPy without any of our code.
"""

import dataclasses

import gymnasium as gym
import numpy as np
import pytest
import torch

from procosm.envs.dreams.world import WorldModelEnv
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
from procosm.envs.trust import calibrate
from procosm.envs.trust.trust import Forecasts, Watch
from procosm.world_model import checkpoint
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.episodes import Episode
from procosm.world_model.errors import CheckpointError, ProcosmError, TaskError
from procosm.world_model.interface import MEAN
from tests.conftest import InstructedDynamics, LinearDynamics

PUSH = np.array([0.5, -0.25, 0.0, 1.0])


def episode(seed: int, steps: int, kind: str) -> Episode:
    rng = np.random.default_rng(seed)
    z = [rng.normal(0, 0.5, 4)]
    actions = rng.uniform(-1, 1, (steps, 1)).astype(np.float32)
    for action in actions:
        z.append(0.9 * z[-1] + PUSH * action)
    values = np.stack(z)
    grey = np.clip(np.round(values * 20 + 128), 0, 255).astype(np.uint8).reshape(-1, 2, 2)
    frames = grey.repeat(20, axis=1).repeat(20, axis=2)[..., None].repeat(3, axis=-1)
    states = np.stack((values[:, 0], np.diff(values[:, 0], prepend=values[0, 0])), axis=1).astype(np.float32)
    return Episode(frames, actions, False, kind, signals={"state": states, "reward": np.zeros(steps, np.float32)})


class TooStrong(LinearDynamics):
    """A dream in which every action pushes harder than it should, by a third."""

    def step(self, memory, action, draws=None, sampling=MEAN):
        return super().step(memory, action * 4 / 3, draws, sampling)


@pytest.fixture(scope="module")
def episodes() -> list[Episode]:
    return [episode(seed, 20, "train" if seed < 60 else "holdout") for seed in range(80)]


@pytest.fixture(scope="module")
def fitted() -> dict[str, torch.Tensor]:
    """Filled by the first test that needs it: a fit takes seconds."""
    return {}


@pytest.fixture
def wrong_world(linear_world: WorldModel, episodes: list[Episode], fitted: dict[str, torch.Tensor]) -> WorldModel:
    """The world with too strong actions, its trust fitted to what was logged."""
    wrong = dataclasses.replace(linear_world, dynamics=TooStrong())
    if not fitted:
        fitted.update(calibrate.fit(wrong, episodes).state_dict())
    return dataclasses.replace(wrong, trust=fitted)


def test_forecasts_follow_the_recurrence(linear_world, episodes):
    torch.manual_seed(0)
    forecasts = calibrate.train_forecasts(linear_world, episodes[:60])
    fresh = episode(1000, 20, "holdout")
    states = torch.from_numpy(fresh.signals["state"][:-1])
    after = forecasts.step(
        forecasts.standardise(states).expand(calibrate.MEMBERS, -1, -1), torch.from_numpy(fresh.actions)
    )
    error = (
        (after - forecasts.standardise(torch.from_numpy(fresh.signals["state"][1:]))).detach().square().mean().sqrt()
    )
    assert error < 0.05, "deviations of the data; standing still is off by about one"


def test_trust_is_lost_where_the_dream_leaves_the_truth(wrong_world):
    """Same start: with no action the dream is right, under full pushes it is a third off. Trust must tell which."""
    env = WorldModelVectorEnv(wrong_world, 2, observation="state", autoreset_mode="DISABLED", max_episode_steps=99)
    env.reset(seed=0, options={"start": 3})
    for _ in range(8):
        infos = env.step(np.array([[0.0], [-1.0]], np.float32))[4]
    still, pushed = infos["trust"]
    assert 0 <= pushed < 0.4 < 0.7 < still <= 1


def test_trust_is_the_share_of_steps_within_the_bound(wrong_world):
    """Fresh episodes, truth by the recurrence: the mean of trust is the share of steps whose error is within bound."""
    fresh = [episode(seed, 20, "holdout") for seed in range(2000, 2100)]
    dreams = calibrate.dream_again(wrong_world, fresh)
    forecasts = Forecasts.from_tensors(wrong_world.trust)
    watch = Watch(wrong_world.trust, len(dreams.actions))
    watch.begin(torch.arange(len(dreams.actions)), dreams.dreamed[:, 0])
    trust, good = [], []
    for t in range(dreams.actions.shape[1]):
        told = watch.advance(dreams.actions[:, t], dreams.dreamed[:, t + 1]).numpy()
        error = ((dreams.dreamed - dreams.true)[:, t + 1] / forecasts.std).square().mean(1).sqrt().numpy()
        there = dreams.there[:, t + 1].numpy()
        trust.append(told[there])
        good.append(error[there] <= float(forecasts.bound))
    trust, good = np.concatenate(trust), np.concatenate(good)
    assert 0.1 < good.mean() < 0.95, "both kinds of step must occur"
    assert trust.mean() == pytest.approx(good.mean(), abs=0.1)
    assert trust[good].mean() > trust[~good].mean() + 0.3


def test_slots_equal_the_single_dream_and_begin_again_alone(wrong_world):
    actions = np.random.default_rng(0).uniform(-1, 1, (12, 3, 1)).astype(np.float32)
    env = WorldModelVectorEnv(wrong_world, 3, observation="state", autoreset_mode="SAME_STEP", max_episode_steps=5)
    alone = [WorldModelEnv(wrong_world, observation="state", max_episode_steps=5) for _ in range(3)]
    infos = env.reset(seed=4)[1]
    singles = [single.reset(seed=4 + i)[1] for i, single in enumerate(alone)]
    for step in actions:
        np.testing.assert_allclose(infos["trust"], [info["trust"] for info in singles], atol=1e-5)
        infos = env.step(step)[4]
        singles = []
        for single, action in zip(alone, step, strict=True):
            _, _, ended, cut, info = single.step(action)
            singles.append(single.reset()[1] if ended or cut else info)


def test_a_moment_brings_its_trust_back(wrong_world):
    actions = np.random.default_rng(1).uniform(-1, 1, (9, 1, 1)).astype(np.float32)
    env, other = (WorldModelVectorEnv(wrong_world, 1, observation="state", max_episode_steps=99) for _ in range(2))
    env.reset(seed=0)
    other.reset(seed=5)
    for action in actions[:5]:
        told = env.step(action)[4]["trust"]
    other.dreams.resume(0, env.dreams.moment(0))
    np.testing.assert_allclose(other.dreams.trust, told, atol=1e-6)
    for action in actions[5:]:
        np.testing.assert_allclose(other.step(action)[4]["trust"], env.step(action)[4]["trust"], atol=1e-6)


def test_dreams_below_the_threshold_are_cut_off(wrong_world):
    env = gym.make_vec(
        "procosm.envs:Procosm/World-v0", num_envs=2, checkpoint=wrong_world, autoreset_mode="DISABLED",
        observation="state", max_episode_steps=99, trust_below=0.5,
    )  # fmt: skip
    env.reset(seed=0, options={"start": 3})
    for _ in range(8):
        _, _, terminated, truncated, infos = env.step(np.array([[0.0], [-1.0]], np.float32))
        np.testing.assert_array_equal(truncated, infos["trust"] < 0.5)
        assert not terminated.any()
    assert truncated.tolist() == [False, True]


def test_a_checkpoint_without_trust_opens_and_says_how_to_get_it(tiny_checkpoint, linear_world):
    assert checkpoint.load(tiny_checkpoint).trust is None
    assert "trust" not in WorldModelEnv(linear_world).reset(seed=0)[1]
    with pytest.raises(TaskError, match=r"procosm\.envs\.trust\.calibrate"):
        WorldModelEnv(linear_world, trust_below=0.5)
    with pytest.raises(TaskError, match=r"trust_below is 1\.5"):
        WorldModelEnv(linear_world, trust_below=1.5)


def test_trust_goes_through_a_checkpoint(tiny_checkpoint, tmp_path, wrong_world):
    model = dataclasses.replace(checkpoint.load(tiny_checkpoint), trust=wrong_world.trust)
    found = checkpoint.load(checkpoint.save(tmp_path / "world_model", model)).trust
    assert found.keys() == wrong_world.trust.keys()
    assert all(torch.equal(found[name], wrong_world.trust[name]) for name in found)
    with pytest.raises(CheckpointError, match="make it again"):
        Watch({name: tensor for name, tensor in found.items() if name != "bound"}, 2)


def test_the_fit_is_a_function_of_its_seed(linear_world, episodes, monkeypatch):
    monkeypatch.setattr(calibrate, "STEPS", 20)
    state = torch.random.get_rng_state()
    first, again, other = (calibrate.fit(linear_world, episodes, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), state), "whoever calls keeps their own random numbers"
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["weights.0"], other["weights.0"])


def test_a_run_away_forecast_stays_finite(wrong_world):
    watch = Watch(wrong_world.trust, 1)
    trust = watch.begin(torch.tensor([0]), torch.tensor([[1e30, -1e30]]))
    for _ in range(3):
        trust = watch.advance(torch.ones(1, 1), torch.tensor([[torch.inf, torch.nan]]))
    assert trust.isfinite().all() and (trust < 0.05).all()


@pytest.mark.parametrize("name", ["calibration", "bound"])
def test_a_trust_that_is_no_number_is_an_error_and_never_goes_on(wrong_world, name):
    spoilt = wrong_world.trust[name].clone()
    spoilt.view(-1)[0] = float("nan")
    world = dataclasses.replace(wrong_world, trust=wrong_world.trust | {name: spoilt})
    env = WorldModelEnv(world, "state", trust_below=0.1)
    with pytest.raises(ProcosmError, match=r"trust of nan in slot 0, step \d+ of the dream from window"):
        env.reset(seed=0)


def test_trust_is_calibrated_on_dreams_that_were_told_what_was_asked_for(linear_world, episodes):
    asked = [dataclasses.replace(each, text="go") for each in episodes[:8]]
    told = dataclasses.replace(linear_world, dynamics=InstructedDynamics())
    dreams, expected = (calibrate.dream_again(world, asked) for world in (told, linear_world))
    torch.testing.assert_close(dreams.dreamed, expected.dreamed)
    still = calibrate.dream_again(told, episodes[:8]).dreamed
    assert torch.equal(still[..., 0], still[:, :1, 0].expand_as(still[..., 0]))
