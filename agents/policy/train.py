"""A policy trained only in the dream: PPO, SAC or SHAC in rounds, each of which can be done again bit for bit.

A round lets every dream live once, from a held-out window to its horizon. All random numbers of round r come from
(seed, r) and all dreams begin anew, so the learner's file is all that a killed training needs to go on as if nothing
had happened.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Interval
from stable_baselines3 import SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecEnv

from procosm.agents.policy.callbacks import TruthCallback
from procosm.agents.policy.learners import (
    check_observation,
    default_observation,
    new_learner,
    reopen_learner,
    set_exploration,
    take_weights,
)
from procosm.agents.policy.replay import load_rounds, save_round
from procosm.agents.policy.training_log import read_log
from procosm.agents.policy.worlds import dreams, judged
from procosm.envs.collect.policy_file import is_pickle, read_stored, save_learner
from procosm.world_model.checkpoint import WorldModel, load
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import write_json
from procosm.world_model.folders import check_out
from procosm.world_model.precision import bfloat16_pays
from procosm.world_model.progress import Progress
from procosm.world_model.settings import Count, Device, Positive, Seed, Settings, SettingsError
from procosm.world_model.stopping import signals_wait
from procosm.world_model.threads import one_thread

FILES = {"policy.zip", "training.zip", "training.json", "evaluations.npz", "replay", "tb"}
"""Names of what lies in a policy's folder."""
LONGEST_ROUND = 64
"""Iterations, unless more are asked for; an episode of a thousand steps takes 63."""


@dataclass(frozen=True)
class PolicyConfig(Settings):
    """How a policy is trained in a world model."""

    world_model: Path
    """Checkpoint folder (RUN/world_model)."""
    out: Path
    """Folder of the policy to make (RUN/policy)."""
    algorithm: Literal["ppo", "sac", "shac"] = "ppo"
    """Learner: ppo or sac of Stable-Baselines3; shac follows the gradient of the return through the dream itself, in
    world models that have one (diffusion), from state, features or latents."""
    observation: Literal["auto", "state", "features", "latent", "pixels"] = "auto"
    """What the policy sees: the model's estimate of the true state, the features it reads where no states were logged,
    its last latents, or three frames; auto: the first of these that the model tells."""
    seed: Seed = 0
    """Of the weights, the dreams and the exploration."""
    dreams: Annotated[int, Interval(ge=1, le=65536)] = 384
    """Dreams side by side."""
    horizon: Count = 32
    """Steps before a dream is cut off and its value estimated; longer dreams drift from the truth."""
    iterations: Count = 24
    """Times that every dream advances by rollout_steps, followed by learning."""
    rollout_steps: Count = 16
    """Steps of each dream in an iteration."""
    gamma: Annotated[float, Interval(gt=0, lt=1)] = 0.99
    """Discount of each step."""
    learning_rate: Annotated[float, Interval(gt=0, le=1)] = 1e-3
    """Of Adam."""
    width: Annotated[int, Interval(ge=1, le=16384)] = 256
    """Of each of the two hidden layers of actor and critic."""
    epochs: Count = 8
    """PPO and SHAC: passes over an iteration's steps."""
    minibatches: Count = 4
    """PPO and SHAC: gradient steps in a pass."""
    std_start: Positive = 0.4
    """PPO: exploration at first, as a share of half the action range."""
    std_end: Positive = 0.1
    """PPO: exploration at last; in between it falls geometrically."""
    truth_every: Annotated[int, Ge(0)] = 12
    """Iterations between looks at the true return; 0 never looks. They guide nothing; their real steps are counted."""
    truth_episodes: Count = 2
    """MuJoCo episodes in each look."""
    trust_below: Annotated[float, Interval(ge=0, le=1)] = 0.0
    """Dreams trusted less are cut off as at their horizon, which may then be longer; 0 cuts none."""
    warm: Path | None = None
    """Policy (zip of ours, of the same algorithm, observation and width) whose weights the training begins with."""
    device: Device = "auto"
    """Where the world model dreams and the policy learns: auto (CUDA where there is a device), cpu, cuda, or cuda:i."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.std_end > self.std_start:
            raise SettingsError(f"--std-end {self.std_end} must be at most --std-start {self.std_start}")
        if self.algorithm == "ppo" and self.dreams < 2:
            raise SettingsError(f"--dreams {self.dreams} must be at least 2 for PPO")
        if self.round_iterations > max(self.iterations, LONGEST_ROUND):
            raise SettingsError(
                f"--horizon {self.horizon} takes {self.round_iterations} iterations of {self.rollout_steps} steps, in "
                f"which nothing is saved, and --iterations {self.iterations} are fewer: give more, or a shorter horizon"
            )
        if self.algorithm == "shac" and self.observation == "pixels":
            raise SettingsError("--observation pixels has no gradient, for pixels are whole numbers: give latent")
        steps = self.dreams * self.rollout_steps
        if self.algorithm != "sac" and (steps % self.minibatches or steps == self.minibatches):
            raise SettingsError(
                f"{self.dreams} dreams x {self.rollout_steps} steps do not divide into {self.minibatches} "
                "--minibatches of two steps or more"
            )

    @property
    def round_iterations(self) -> int:
        """Iterations in which a dream lives."""
        return -(-self.horizon // self.rollout_steps)

    @property
    def rounds(self) -> int:
        """Rounds of training."""
        return -(-self.iterations // self.round_iterations)

    @property
    def round_steps(self) -> int:
        """Imagined steps in a round, over all dreams."""
        return self.dreams * self.rollout_steps * self.round_iterations


@one_thread()  # its networks are small; the dreams have threads of their own
def train_policy(config: PolicyConfig, world: Callable[..., VecEnv] = dreams) -> Path:
    """Train a policy in a world model, or go on where the last one was killed.

    Writes ``policy.zip`` (``procosm.envs.collect.policy_file.load_policy`` opens it; no pickle), ``training.json`` and
    TensorBoard logs under ``tb/``. Killed
    at any moment, the same command ends with the same weights, bit for bit, on a CPU with the same thread count.

    Args:
        config: the settings.
        world: makes what the policy practises in, given the arguments of ``dreams``; to shac, which dreams with
            gradients, it only says what is observed and done.

    Returns:
        the folder ``config.out``.

    Raises:
        CheckpointError: no world model, or a damaged one.
        ProcosmError: ``out`` holds anything but a policy or cannot be written, the policy cannot see this model's
            frames, or its weights are not finite.
        KeyboardInterrupt: Ctrl-C or SIGTERM, once the round it came in is done and saved.
    """
    check_out(config.out, FILES.__contains__)
    folder, working = config.out, config.out / "training.zip"
    if (folder / "policy.zip").exists():
        return finished_policy(folder)
    model = load(config.world_model, device=config.device)
    config = with_observation(config, model)
    check_observation(config.observation, min(model.task.height, model.task.width))
    model.dynamics.mixed = bfloat16_pays(model.starts.device)
    trust_below = config.trust_below or None
    env = world(model, config.dreams, config.observation, config.horizon, config.gamma, trust_below)
    learner = reopen_learner(working, config, env, model) if working.exists() else new_learner(config, env, model)
    if config.warm is not None and not learner.num_timesteps:
        take_weights(learner, config.warm)
    done = learner.num_timesteps // config.round_steps
    steps = config.rollout_steps * config.round_iterations
    replay = learner.replay_buffer if isinstance(learner, SAC) else None
    if replay is not None:
        load_rounds(replay, folder / "replay", done, steps)
    log = _so_far(config, learner.num_timesteps)
    Path(os.path.realpath(folder)).mkdir(parents=True, exist_ok=True)  # links may lead to what is not there
    total = config.rounds * config.round_iterations
    bar = Progress(total, "policy", "iteration", done * config.round_iterations)
    with bar, signals_wait() as stopping, _truth(config, model, folder, log, done * steps, bar) as callback:
        learner.set_logger(configure(str(folder / "tb"), ["tensorboard"]))
        for index in range(done, config.rounds):
            practise(learner, config, index, callback)
            log["rounds"].append(_summary(learner, index))
            log["truth"] = callback.records() if callback else []
            if replay is not None:
                save_round(replay, folder / "replay", index, steps)
            write_json(folder / "training.json", log)
            save_learner(learner, working)
            bar.show(_shown(log), digits=1)
            bar.update(config.round_iterations)
            if stopping():
                break
    env.close()
    working.replace(folder / "policy.zip")
    return folder


def with_observation(config: PolicyConfig, model: WorldModel) -> PolicyConfig:
    """The settings with what the policy sees by its name, where it is left to the model."""
    return replace(config, observation=default_observation(model)) if config.observation == "auto" else config  # type: ignore[arg-type]


def finished_policy(folder: Path) -> Path:
    """``folder``, if the policy in it is whole; a zip of SB3's, from an earlier version, is not looked into.

    Raises:
        ProcosmError: it is missing or damaged.
    """
    path = folder / "policy.zip"
    if not is_pickle(path):
        read_stored(path)
    return folder


def practise(learner: BaseAlgorithm, config: PolicyConfig, index: int, callback: TruthCallback | None) -> None:
    """One round: every source of chance is seeded from (seed, round), and every dream begins anew."""
    seed = int(np.random.SeedSequence((config.seed, index)).generate_state(1)[0]) >> 1
    learner.set_random_seed(seed)
    share = index / max(1, config.rounds - 1)
    set_exploration(learner, config.std_start * (config.std_end / config.std_start) ** share)
    learner._last_obs = None  # makes SB3 reset the dreams, with the seeds just given
    learner.learn(config.round_steps, callback=callback, reset_num_timesteps=False, log_interval=1)
    for name, weights in learner.policy.named_parameters():
        if not weights.isfinite().all():
            raise ProcosmError(
                f"{name} of the policy is not finite after round {index}, with learning rate {config.learning_rate}: "
                f"delete {config.out} and train again with `procosm train-policy` and a lower --learning-rate"
            )


def _summary(learner: BaseAlgorithm, index: int) -> dict[str, Any]:
    """What the dreams that ended in the last round were like."""
    assert learner.ep_info_buffer is not None  # learn() made it
    ended = list(learner.ep_info_buffer)
    learner.ep_info_buffer.clear()
    return {
        "round": index,
        "imagined_steps": learner.num_timesteps,
        "dream_return": float(np.mean([info["r"] for info in ended])) if ended else None,
        "dream_length": float(np.mean([info["l"] for info in ended])) if ended else None,
    }


@contextmanager
def _truth(
    config: PolicyConfig, model: WorldModel, folder: Path, log: dict[str, Any], calls: int, bar: Progress
) -> Iterator[TruthCallback | None]:
    """A look at MuJoCo every now and then of a training, or None."""
    if config.truth_every and model.task.twin is None:
        print(f"No looks at MuJoCo: nothing simulates {model.task.id}.", file=sys.stderr)
    if not config.truth_every or model.task.twin is None:
        yield None
        return
    env = judged(config.world_model, model.task, config.observation, config.device)
    every = config.truth_every * config.rollout_steps
    callback = TruthCallback(env, config.truth_episodes, every, folder, bar)
    callback.restore(log["truth"], calls)
    yield callback
    env.close()


def _so_far(config: PolicyConfig, imagined_steps: int) -> dict[str, Any]:
    """The log of the rounds that the learner has in it; what a killed round wrote beyond them is dropped."""
    path = config.out / "training.json"
    log = read_log(config.out) if path.exists() else {"rounds": [], "truth": []}
    return {
        "algorithm": config.algorithm,
        "observation": config.observation,
        "rounds": [entry for entry in log["rounds"] if entry["imagined_steps"] <= imagined_steps],
        "truth": [entry for entry in log["truth"] if entry["imagined_steps"] <= imagined_steps],
    }


def _shown(log: dict[str, Any]) -> dict[str, float | None]:
    """The newest returns, as they stand behind the bar."""
    true = {"MuJoCo": float(np.mean(log["truth"][-1]["returns"]))} if log["truth"] else {}
    return {"return in dreams": log["rounds"][-1]["dream_return"], **true}
