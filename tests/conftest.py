"""Fixtures for every test: a world whose dreams can be computed by hand, a real but untrained model, a truth env."""

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from procosm.world_model.checkpoint import WorldModel, save
from procosm.world_model.data.task import MAIN, Task, Twin, View, logged_signals
from procosm.world_model.interface import MEAN, Condition, LatentSpec, Prediction, Sampling
from procosm.world_model.registry import untrained
from procosm.world_model.training.presets import preset

CONTEXT, SIDE, FRAME = 3, 2, 40
DECAY, PUSH, NOISE = 0.9, np.array([[0.5], [-0.25], [0.0], [1.0]], np.float32), 0.1


class BrightnessTokenizer:
    """A latent of 2 by 2 numbers is the brightness of the four quarters of a grey frame, 20 levels for each unit."""

    spec = LatentSpec((1, SIDE, SIDE))
    mixed = False

    def __init__(self) -> None:
        self.decoded = 0

    def encode(self, frames: torch.Tensor) -> torch.Tensor:
        half = FRAME // SIDE
        quarters = frames.float().mean(-1).unflatten(3, (SIDE, half)).unflatten(2, (SIDE, half)).mean((3, 5))
        return (quarters[:, :, None] - 128) / 20

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        self.decoded += len(latents)
        half = FRAME // SIDE
        grey = (latents * 20 + 128).round().clamp(0, 255).to(torch.uint8)[:, :, 0]
        return grey.repeat_interleave(half, 2).repeat_interleave(half, 3)[..., None].expand(-1, -1, -1, -1, 3)


@dataclass(frozen=True)
class LinearMemory:
    """The newest latents, and those before; (b, 1, 2, 2) each."""

    newest: torch.Tensor
    before: torch.Tensor

    def take(self, slots: torch.Tensor) -> "LinearMemory":
        return LinearMemory(self.newest[slots], self.before[slots])

    @torch.inference_mode()
    def put(self, slots: torch.Tensor, other: "LinearMemory") -> None:
        self.newest[slots], self.before[slots] = other.newest, other.before


class LinearDynamics:
    """z' = 0.9 z + B a, with B above; reward is the mean of z', the dream ends where its first number passes 1.5.

    The state is (first number of z, its change since the step before).
    """

    context = CONTEXT
    mixed = False
    readouts = frozenset({"reward", "termination", "state"})

    def begin(self, latents: torch.Tensor, condition: Condition | None = None) -> LinearMemory:
        return LinearMemory(latents[:, -1].clone(), latents[:, max(-2, -latents.shape[1])].clone())

    def read(self, memory: LinearMemory) -> dict[str, torch.Tensor]:
        newest, before = memory.newest.flatten(1)[:, 0], memory.before.flatten(1)[:, 0]
        return {"state": torch.stack([newest, newest - before], 1)}

    def step(
        self,
        memory: LinearMemory,
        action: torch.Tensor,
        draws: Sequence[np.random.Generator] | None = None,
        sampling: Sampling = MEAN,
    ) -> tuple[LinearMemory, Prediction]:
        latent = DECAY * memory.newest + (action @ torch.from_numpy(PUSH).T).view(-1, 1, SIDE, SIDE)
        if draws is not None and sampling.steps > 1:
            noise = np.stack([each.standard_normal(latent.shape[1:], np.float32) for each in draws])
            latent = latent + NOISE * sampling.steps * torch.from_numpy(noise)
        after = LinearMemory(latent, memory.newest)
        first = latent.flatten(1)[:, 0]
        told = {"reward": latent.mean((1, 2, 3)), "termination": torch.where(first > 1.5, 0.9, 0.1)}
        return after, Prediction(latent, told | self.read(after))


@dataclass(frozen=True)
class InstructedMemory(LinearMemory):
    """Of a dream that was told something; (b, 1, 1), 1 where it was "go"."""

    going: torch.Tensor

    def take(self, slots: torch.Tensor) -> "InstructedMemory":
        return InstructedMemory(self.newest[slots], self.before[slots], self.going[slots])

    @torch.inference_mode()
    def put(self, slots: torch.Tensor, other: "InstructedMemory") -> None:
        self.newest[slots], self.before[slots], self.going[slots] = other.newest, other.before, other.going


class InstructedDynamics(LinearDynamics):
    """The same where it is told to go; else it stands still."""

    @staticmethod
    def embed_text(texts: Sequence[str]) -> torch.Tensor:
        return torch.tensor([[[float(text == "go")]] for text in texts])

    def begin(self, latents: torch.Tensor, condition: Condition | None = None) -> InstructedMemory:
        going = latents.new_zeros(len(latents), 1, 1) if condition is None else condition.text
        return InstructedMemory(**vars(super().begin(latents)), going=going)

    def step(self, memory, action, draws=None, sampling=MEAN):
        after, prediction = super().step(memory, action, draws, sampling)
        latent = memory.newest + memory.going[..., None] * (after.newest - memory.newest)
        told = InstructedMemory(latent, memory.newest, memory.going)
        return told, Prediction(latent, dict(prediction.readouts) | self.read(told))


def simulated_task(
    name: str, size: int, state_size: int, bound: float = 1.0, actions: int = 1, max_episode_steps: int = 1000
) -> Task:
    """A MuJoCo task seen by one square camera, with everything logged; actions from -bound to bound."""
    camera = {"azimuth": 20.0, "lookat": [0.0, 0.0, 1.0]}
    return Task(
        id=name,
        views=(View(MAIN, size, size),),
        action_low=(-bound,) * actions,
        action_high=(bound,) * actions,
        action_repeat=1,
        dt_s=0.04,
        max_episode_steps=max_episode_steps,
        signals=logged_signals(state_size),
        twin=Twin(name, {}, "egl", {MAIN: camera}, state_size, 1),
    )


@pytest.fixture(scope="session", autouse=True)
def signals_act() -> None:
    """A shell has SIGINT ignored in the background, and nohup SIGHUP; for tests, and processes they start, both act."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


@pytest.fixture
def linear_task() -> Task:
    return simulated_task("Linear-v0", FRAME, 2, max_episode_steps=7)


@pytest.fixture
def linear_world(linear_task: Task) -> WorldModel:
    """A world model whose dreams are a linear recurrence; episodes of it end for good or are cut off at 7 steps."""
    starts = torch.from_numpy(np.random.default_rng(5).normal(0, 0.5, (11, CONTEXT, 1, SIDE, SIDE)).astype(np.float32))
    tokenizer = BrightnessTokenizer()
    return WorldModel(
        task=linear_task,
        tokenizer=tokenizer,
        dynamics=LinearDynamics(),
        starts=starts,
        start_frames=tokenizer.decode(starts.flatten(0, 1)[:, None]).unflatten(0, starts.shape[:2])[:, :, 0],
        start_states=torch.zeros(11, 2),
        reward_range=(-0.5, 0.6),
        metrics={},
        provenance={},
    )


def restless_model(task: Task, seed: int = 0, change: Callable[[Any], Any] = lambda config: config) -> WorldModel:
    """A real model of the ``debug`` preset, untrained, with every weight moved so that no layer is still zero.

    ``change``: what becomes of the dynamics' config.
    """
    torch.manual_seed(seed)
    size = preset("debug")
    tokenizer, dynamics = untrained(task, size.tokenizer, change(size.dynamics))
    with torch.no_grad():
        for parameter in (*tokenizer.parameters(), *dynamics.parameters()):
            parameter.add_(0.02 * torch.randn_like(parameter))
    frames = torch.randint(0, 256, (9, dynamics.context, *task.frame_shape), dtype=torch.uint8)
    return WorldModel(
        task=task,
        tokenizer=tokenizer.requires_grad_(False).eval(),
        dynamics=dynamics.requires_grad_(False).eval(),
        start_frames=frames,
        start_states=torch.zeros(len(frames), task.state_size) if "state" in task.signals else None,
        starts=tokenizer.encode(frames.flatten(0, 1)[:, None]).unflatten(0, frames.shape[:2])[:, :, 0],
        reward_range=(-1.0, 1.0),
        metrics={},
        provenance={},
    )


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as training writes it, with a real but untrained model of InvertedPendulum."""
    task = simulated_task("InvertedPendulum-v5", 64, 4, bound=3.0)
    return save(tmp_path_factory.mktemp("run") / "world_model", restless_model(task))


@pytest.fixture(scope="session")
def pendulum_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset of 400 steps of InvertedPendulum in MuJoCo, as collected. Read only: rendering it takes seconds."""
    from procosm.envs.collect.collect import CollectConfig, collect

    return collect(CollectConfig("InvertedPendulum", tmp_path_factory.mktemp("log"), steps=400, processes=1))


@pytest.fixture(scope="session")
def truth_env() -> Iterator[gym.Env]:
    """InvertedPendulum in MuJoCo through a camera, observing pixels."""
    env = gym.make("procosm.envs:Procosm/InvertedPendulumTruth-v0", frame_size=64)
    yield env
    env.close()


@pytest.fixture(scope="session")
def checkpoint_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Task], Path]:
    """Writes a folder as training does, with a real but untrained model of any task."""
    return lambda task: save(tmp_path_factory.mktemp("run") / "world_model", restless_model(task))


@pytest.fixture(scope="session")
def truth_checkpoint(truth_env: gym.Env, checkpoint_of: Callable[[Task], Path]) -> Path:
    """An untrained model's folder that belongs to ``truth_env``: same task, camera and renderer."""
    return checkpoint_of(truth_env.unwrapped.task)
