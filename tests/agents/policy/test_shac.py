"""SHAC: gradients through dreams are those that calculus gives, and a policy that follows them learns."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from procosm.agents.policy.gradient_dreams import GradientDreams
from procosm.agents.policy.learners import new_learner
from procosm.agents.policy.shac import Lesson, lambda_returns
from procosm.agents.policy.train import PolicyConfig
from procosm.agents.policy.worlds import dreams
from procosm.envs.dreams.dreams import Dreams
from procosm.envs.trust.trust import Forecasts
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.errors import TaskError
from procosm.world_model.interface import MEAN, Prediction
from procosm.world_model.settings import SettingsError
from tests.conftest import DECAY, PUSH, LinearDynamics, LinearMemory


class SmoothDynamics(LinearDynamics):
    """Steps have gradients, because nothing stops them."""

    def step_with_gradient(self, memory: LinearMemory, action: torch.Tensor) -> tuple[LinearMemory, Prediction]:
        return self.step(memory, action)


class PricedDynamics(SmoothDynamics):
    """The first number of z should be zero, and what is done costs a little; nothing ends."""

    def step(self, memory, action, draws=None, sampling=MEAN):
        after, told = super().step(memory, action, draws, sampling)
        reward = -after.newest.flatten(1)[:, 0].square() - 0.1 * action[:, 0].square()
        return after, Prediction(told.latents, {"reward": reward, **self.read(after)})

    readouts = frozenset({"reward", "state"})


@pytest.fixture
def smooth_world(linear_world: WorldModel) -> WorldModel:
    return replace(linear_world, dynamics=SmoothDynamics(), reward_range=(-9.0, 9.0))


def test_lambda_returns_are_the_weighted_sum_of_n_step_returns():
    rng = np.random.default_rng(0)
    h, gamma, lam = 6, 0.9, 0.7
    rewards, values = rng.normal(size=h), rng.normal(size=h)

    def n_step(t: int, n: int) -> float:
        return float(gamma ** np.arange(n) @ rewards[t : t + n] + gamma**n * values[t + n - 1])

    expected = [
        sum((1 - lam) * lam ** (n - 1) * n_step(t, n) for n in range(1, h - t)) + lam ** (h - t - 1) * n_step(t, h - t)
        for t in range(h)
    ]
    column = [torch.from_numpy(each)[:, None] for each in (rewards, np.full(h, gamma), values, np.full(h, lam))]
    torch.testing.assert_close(lambda_returns(*column)[:, 0], torch.tensor(expected, dtype=torch.float64))


def test_gradients_go_back_to_the_first_action_of_a_window_and_no_further(smooth_world):
    free, n, h = GradientDreams(smooth_world, "state", 2, np.random.default_rng(0)), 2, 5
    noise = torch.zeros(h, n, 1, requires_grad=True)  # stands for the actions: what the actor gives is noise itself
    earlier = free.window(lambda seen, each: each, torch.zeros(2, n, 1, requires_grad=True))
    (gradient,) = torch.autograd.grad(free.window(lambda seen, each: each, noise).rewards.sum(), noise)
    expected = [PUSH.mean() * sum(DECAY**k for k in range(h - t)) for t in range(h)]
    np.testing.assert_allclose(gradient[:, :, 0], np.repeat(expected, n).reshape(h, n), rtol=1e-5)
    assert earlier.rewards.requires_grad


def test_they_are_the_dreams_that_environments_show(smooth_world):
    h, n, actions = 6, 4, torch.rand(6, 4, 1, generator=torch.Generator().manual_seed(1)) * 2 - 1
    free = GradientDreams(smooth_world, "latent", n, np.random.default_rng(3))
    window = free.window(lambda seen, each: each, actions)
    shown = Dreams(smooth_world, n, starts="wide", max_episode_steps=-1)
    drawn = np.random.default_rng(3).choice(shown.windows.usable, n).tolist()
    shown.restart(np.arange(n), [np.random.default_rng(0)] * n, drawn)
    for step in range(h):
        torch.testing.assert_close(window.observed[step], shown.latents)
        outcome = shown.advance(actions[step].numpy())
        np.testing.assert_allclose(window.rewards[step], outcome.reward, rtol=1e-6)
        np.testing.assert_array_equal(window.goes_on[step] < 0.5, outcome.terminated)


def test_a_dream_that_ends_counts_to_its_end_and_begins_anew_with_the_next_window(smooth_world):
    free = GradientDreams(smooth_world, "state", 3, np.random.default_rng(0))
    first = free.window(lambda seen, each: each, torch.ones(12, 3, 1))  # pushed beyond 1.5 before that
    ends = (first.goes_on < 0.5).int().argmax(0)
    assert (first.goes_on < 0.5).any(0).all() and not free.lives
    again = free.window(lambda seen, each: each, torch.zeros(1, 3, 1))
    assert again.observed[0, :, 0].max() < 1.5 and len(free.lives) == 3
    for slot, life in enumerate(free.lives):
        assert life["l"] == ends[slot] + 1
        assert life["r"] == pytest.approx(float(first.rewards[: ends[slot] + 1, slot].sum()))


def forecasts() -> dict[str, torch.Tensor]:
    """Trust of the linear world that says nothing moves: the further a dream goes, the less it is trusted."""
    found = Forecasts(2, 2, 1, 4)
    with torch.no_grad():
        for parameter in found.parameters():
            parameter.zero_()
        found.std.fill_(1), found.high.fill_(1), found.low.fill_(-1), found.bound.fill_(0.5)
        found.calibration.copy_(torch.tensor([1.0, 0.0, 0.1]))
    return {name: tensor.detach() for name, tensor in found.state_dict().items()}


def test_dreams_trusted_less_are_cut_where_environments_cut_them(smooth_world):
    model = replace(smooth_world, trust=forecasts())
    free = GradientDreams(model, "state", 3, np.random.default_rng(3), trust_below=0.5)
    cut = free.window(lambda seen, each: each, torch.ones(5, 3, 1)).cut
    shown = Dreams(model, 3, starts="wide", max_episode_steps=-1, trust_below=0.5)
    drawn = np.random.default_rng(3).choice(shown.windows.usable, 3).tolist()
    shown.restart(np.arange(3), [np.random.default_rng(0)] * 3, drawn)
    expected = [shown.advance(np.ones((3, 1), np.float32)).truncated for _ in range(5)]
    np.testing.assert_array_equal(cut, expected)
    assert 0 < cut.sum() < cut.numel()


def test_what_has_no_gradient_is_refused(linear_world):
    config = PolicyConfig(Path(), Path(), algorithm="shac", observation="state", dreams=4)
    with pytest.raises(TaskError, match=r"no gradient that a policy could follow.*ppo or sac"):
        new_learner(config, dreams(linear_world, 4, "state", 4, 0.99), linear_world)
    with pytest.raises(SettingsError, match="pixels are whole numbers: give latent"):
        PolicyConfig(Path(), Path(), algorithm="shac", observation="pixels")


def test_actions_are_moved_along_the_gradient_by_a_tenth_and_stay_within_bounds(smooth_world):
    size = {"dreams": 8, "horizon": 4, "rollout_steps": 4, "width": 16}
    config = PolicyConfig(Path(), Path(), algorithm="shac", observation="state", **size)
    learner = new_learner(config, dreams(smooth_world, 8, "state", 4, 0.99), smooth_world)
    rng = torch.Generator().manual_seed(0)
    seen, noise, gradient = (torch.randn(600, size, generator=rng) for size in (2, 1, 1))
    gradient[0], noise[1], gradient[1] = 100.0, 500.0, 3.0  # one that is far too steep; one that is done at the bound
    done, told = learner.policy.unit_action(seen, noise).detach(), torch.ones(600)
    moved = learner._moved(Lesson(seen, noise, told, told, gradient)) - done
    size = 0.1 * gradient / gradient.square().mean().sqrt()
    torch.testing.assert_close(moved[2:], size[2:], atol=1e-6, rtol=0)
    assert moved[0].item() == pytest.approx(0.3, abs=1e-6) and moved[1] == 0


def test_a_round_is_as_long_as_its_dreams_and_counts_them(smooth_world):
    size = {"dreams": 8, "horizon": 4, "rollout_steps": 2, "width": 16}
    config = PolicyConfig(Path(), Path(), algorithm="shac", observation="state", **size)
    learner = new_learner(config, dreams(smooth_world, 8, "state", 4, 0.99), smooth_world)
    for _ in range(2):
        learner.learn(config.round_steps, reset_num_timesteps=False)
    assert learner.num_timesteps == 2 * config.round_steps == 64
    assert [life["l"] for life in learner.ep_info_buffer] == [4] * 8


def test_policies_that_follow_the_gradient_learn_more_than_any_constant_action_earns(smooth_world):
    """With a price on actions, the best of them depends on the state: then no constant one is the best."""
    model = replace(smooth_world, dynamics=PricedDynamics())
    size = {"dreams": 32, "horizon": 7, "rollout_steps": 7, "iterations": 60, "width": 32, "gamma": 0.9}
    config = PolicyConfig(Path(), Path(), algorithm="shac", observation="state", **size)
    env = dreams(model, config.dreams, "state", config.horizon, config.gamma)
    learner = new_learner(config, env, model)
    learner.learn(config.rounds * config.round_steps)

    def earned(act) -> float:
        env.seed(3)
        observed, total = env.reset(), np.zeros(env.num_envs)
        for _ in range(config.horizon):
            observed, rewards, dones, _ = env.step(act(observed))
            total += rewards
        assert dones.all()
        return float(total.mean())

    constants = [earned(lambda seen, a=a: np.full((len(seen), 1), a, np.float32)) for a in np.linspace(-1, 1, 21)]
    assert earned(lambda seen: learner.predict(seen, deterministic=True)[0]) > max(constants)
