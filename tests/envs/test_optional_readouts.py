"""Dreams of models that tell less: no reward, no end, no state; and rewards of the user's own."""

import dataclasses

import numpy as np
import pytest
import torch

from procosm.envs.dreams.dreams import Dreams
from procosm.envs.dreams.reward import Reward
from procosm.envs.dreams.world import WorldModelEnv
from procosm.envs.dreams.world_vector import WorldModelVectorEnv
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.errors import ProcosmError, TaskError
from procosm.world_model.interface import MEAN, Prediction
from tests.conftest import LinearDynamics

MAKERS = {
    "single": WorldModelEnv,
    "vector": lambda model, *view, **named: WorldModelVectorEnv(model, 2, *view, **named),
}
makers = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


class Only(LinearDynamics):
    """The linear dynamics, of which only some readouts have been learned."""

    def __init__(self, *names: str) -> None:
        self.readouts = frozenset(names)

    def read(self, memory):
        return {name: value for name, value in super().read(memory).items() if name in self.readouts}

    def step(self, memory, action, draws=None, sampling=MEAN):
        memory, said = super().step(memory, action, draws, sampling)
        told = {name: value for name, value in said.readouts.items() if name in self.readouts}
        return memory, Prediction(said.latents, told)


def world(linear_world: WorldModel, *names: str) -> WorldModel:
    return dataclasses.replace(linear_world, dynamics=Only(*names))


@makers
def test_without_a_reward_an_environment_refuses_and_says_how_to_give_one(linear_world, make):
    with pytest.raises(TaskError, match=r"Linear-v0 has learned no reward: give reward=FUNCTION.*state, termination"):
        make(world(linear_world, "termination", "state"))


@makers
@pytest.mark.parametrize("source", ["frames", "latents", "action"])
def test_a_given_reward_is_made_of_what_is_told(linear_world, make, source):
    def reward(told) -> np.ndarray:
        return told[source].reshape(len(told[source]), -1).mean(1)

    env = make(world(linear_world), "latent", reward=reward, render_mode="rgb_array")
    env.reset(seed=3)
    observed, earned, *_ = env.step(np.full(env.action_space.shape, 0.5, np.float32))
    shown = {"frames": np.asarray(env.render()), "latents": observed[..., -1, :, :, :], "action": np.full(2, 0.5)}
    earned = np.atleast_1d(earned)
    expected = shown[source][: len(earned)] if source == "action" else shown[source]
    np.testing.assert_allclose(earned, expected.reshape(len(earned), -1).mean(1), rtol=1e-5)


def test_a_given_reward_replaces_the_models_own_and_is_not_clipped(linear_world):
    env = WorldModelEnv(linear_world, reward=lambda told: 100 + told["reward"])
    env.reset(seed=0)
    assert env.step(np.zeros(1))[1] > 99


@pytest.mark.parametrize(
    ("reward", "why"),
    [
        (lambda told: told["speed"], r"asks for 'speed', and this world model tells action, latents, frames, reward"),
        (lambda told: 1.0, r"gave 1\.0 for 2 dreams: give an array \(2,\)"),
        (lambda told: np.array([1.0, np.nan]), "finite"),
    ],
)
def test_a_reward_that_cannot_be_is_refused(linear_world, reward: Reward, why):
    env = WorldModelVectorEnv(linear_world, 2, reward=reward)
    env.reset(seed=0)
    with pytest.raises(TaskError, match=why):
        env.step(np.zeros((2, 1)))


@makers
def test_a_reward_is_a_function(linear_world, make):
    with pytest.raises(TaskError, match="reward='sparse': give a function"):
        make(linear_world, reward="sparse")


def test_without_termination_nothing_ends_but_by_time(linear_world):
    """The same actions end dreams of the whole model."""
    ended = {}
    for name, model in (("whole", linear_world), ("none", world(linear_world, "reward"))):
        dreams = Dreams(model, 3, max_episode_steps=30)
        dreams.restart(np.arange(3), [np.random.default_rng(i) for i in range(3)], [0, 1, 2])
        outcomes = [dreams.advance(np.ones((3, 1), np.float32)) for _ in range(30)]
        ended[name] = np.any([outcome.terminated for outcome in outcomes])
        assert outcomes[-1].truncated.all() and not outcomes[-2].truncated.any()
    assert ended == {"whole": True, "none": False}


@makers
def test_without_a_state_info_has_none_and_observing_it_is_refused(linear_world, make):
    model = world(linear_world, "reward", "termination")
    env = make(model, ("pixels", "latent"))
    assert set(env.reset(seed=0)[1]) <= {"start", "_start"}
    assert set(env.step(np.zeros(env.action_space.shape))[4]) <= {"start", "_start"}
    for observation in ("state", ("pixels", "state")):
        with pytest.raises(TaskError, match="observation='state', but the world model of Linear-v0 has learned none"):
            make(model, observation)


def test_without_a_state_there_is_nothing_to_perceive_it_with(linear_world):
    model = world(linear_world, "reward")
    with pytest.raises(ProcosmError, match=r"tells no state \(it tells reward\): train it on a log that has states"):
        model.read("state", model.starts)
    assert model.capabilities == {"reward"}


def test_a_dream_without_a_state_goes_back_to_a_moment(linear_world):
    dreams = Dreams(world(linear_world, "reward"), 2, denoising_steps=3)
    dreams.restart(np.arange(2), [np.random.default_rng(i) for i in range(2)], [3, 4])
    dreams.advance(np.ones((2, 1), np.float32))
    moment, push = dreams.moment(1), np.float32([[0.5], [-0.5]])
    dreams.advance(push)
    after = dreams.latents[1].clone()
    dreams.resume(0, moment)
    dreams.advance(push[::-1].copy())
    assert (dreams.latents[0] == after).all()


class Drawing(Only):
    """It draws first frames itself; that of the last slot is not finite."""

    fewest = 0

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def first(self, draws, sampling, text=None):
        drawn = torch.zeros(len(draws), 1, 2, 2)
        drawn[-1, 0, 1, 0] = self.value
        return drawn


@makers
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_first_frame_that_was_drawn_is_looked_at_as_every_other(linear_world, make, value):
    def opened(number: float):
        model = dataclasses.replace(linear_world, dynamics=Drawing(number))
        return make(model, "latent", reward=lambda told: np.zeros(len(told["action"])))

    opened(0.5).reset(seed=0, options={"frames": ()})
    with pytest.raises(ProcosmError, match=r"predicted a latent of (nan|inf) in slot [01], step 0 of the dream"):
        opened(value).reset(seed=0, options={"frames": ()})
