"""PPO, SAC and SHAC with the settings that learned from dreams, as ordinary Stable-Baselines3 objects."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv

from procosm.agents.policy.shac import SHAC
from procosm.envs.collect.policy_file import read_stored, restore_learner
from procosm.envs.dreams.features import LatentMotion, StandardisedState, state_statistics
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.errors import TaskError
from procosm.world_model.files import under
from procosm.world_model.precision import resolve_device
from procosm.world_model.settings import SettingsError

if TYPE_CHECKING:
    from procosm.agents.policy.train import PolicyConfig

SMALLEST_FRAME = 36
"""Pixels that the three convolutions of SB3's NatureCNN need."""


def new_learner(config: "PolicyConfig", env: VecEnv, model: WorldModel) -> BaseAlgorithm:
    """An untrained learner, its weights drawn from ``config.seed``."""
    common: dict[str, Any] = {
        "policy": "CnnPolicy" if config.observation == "pixels" else "MlpPolicy",
        "env": env,
        "learning_rate": config.learning_rate,
        "gamma": config.gamma,
        "seed": config.seed,
        "device": resolve_device(config.device),
        "stats_window_size": config.dreams,
        "policy_kwargs": {"net_arch": [config.width, config.width], **_features(config.observation, model)},
    }
    if config.algorithm != "sac":
        rollout = config.dreams * config.rollout_steps
        common |= {
            "n_steps": config.rollout_steps,
            "batch_size": rollout // config.minibatches,
            "n_epochs": config.epochs,
        }
        if config.algorithm == "ppo":
            return PPO(**common)
        return SHAC(model=model, observation=config.observation, trust_below=config.trust_below or None, **common)
    return SAC(
        buffer_size=config.rounds * config.round_steps,
        learning_starts=config.dreams * config.rollout_steps,
        train_freq=1,
        gradient_steps=max(1, config.dreams // 8),
        ent_coef="auto_0.1",  # rewards are scaled to stay small: from SB3's 1.0, entropy would rule for a long while
        **common,
    )


def reopen_learner(path: Path, config: "PolicyConfig", env: VecEnv, model: WorldModel) -> BaseAlgorithm:
    """A learner with its optimizer, as a finished round saved it.

    Raises:
        TaskError: the file is damaged, of other settings, or a pickle of an earlier version.
    """
    learner = new_learner(config, env, model)
    restore_learner(learner, path)
    return learner


def take_weights(learner: BaseAlgorithm, path: Path) -> None:
    """Give an untrained learner the weights of a policy of ours; its optimizers begin anew.

    Raises:
        TaskError: no such policy, or one of another algorithm, observation or width.
    """
    stored = read_stored(path)
    try:
        if stored.algorithm != type(learner).__name__:
            raise ValueError(f"it is {stored.algorithm}'s")
        learner.policy.load_state_dict(under("weights.", stored.tensors))
    except (ValueError, RuntimeError) as error:
        raise TaskError(f"training cannot begin with {path} ({error}): give a policy of the same settings") from error


def default_observation(model: WorldModel) -> str:
    """What a policy sees unless it is asked for something else: the shortest vector that the model tells."""
    return next((name for name in ("state", "features") if name in model.capabilities), "latent")


def check_observation(observation: str, frame_size: int) -> None:
    """Refuse what no policy can see.

    Args:
        frame_size: the shorter side of a frame, pixels.

    Raises:
        SettingsError: frames too small for the convolutions of SB3's CnnPolicy.
    """
    if observation == "pixels" and frame_size < SMALLEST_FRAME:
        raise SettingsError(
            f"--observation pixels needs frames of {SMALLEST_FRAME} px or more, these have {frame_size}: give "
            "--observation state or latent"
        )


def set_exploration(learner: BaseAlgorithm, share: float) -> None:
    """Give PPO's Gaussian a standard deviation of ``share`` of half each action's range, and keep it from learning.

    SAC sets its own exploration by its entropy target, and SHAC needs next to none, so nothing happens to them.
    """
    if isinstance(learner, PPO):
        space = learner.action_space
        assert isinstance(space, spaces.Box)  # a task's actions are motors
        half = torch.as_tensor((space.high - space.low) / 2, dtype=torch.float32).flatten()  # (a,), of chunks (k a,)
        learner.policy.log_std.requires_grad_(False)
        learner.policy.log_std.data.copy_(torch.log(half * share))


def _features(observation: str, model: WorldModel) -> dict[str, Any]:
    """Policy keywords that choose how an observation enters the network; nothing for pixels (SB3's own CNN)."""
    if observation in ("state", "features"):
        seen = model.start_states if observation == "state" else model.read("features", model.starts)
        assert seen is not None  # states were logged, or the model could not tell any
        mean, scale = state_statistics(np.asarray(seen.cpu()))
        return {
            "features_extractor_class": StandardisedState,
            "features_extractor_kwargs": {"mean": mean, "scale": scale},
        }
    return {"features_extractor_class": LatentMotion} if observation == "latent" else {}
