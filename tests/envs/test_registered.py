"""Every registered id, truth and dream: the same spaces, and nothing to say for Gymnasium's and SB3's checkers."""

import warnings
from collections.abc import Callable
from pathlib import Path

import gymnasium as gym
import pytest
from gymnasium.utils.env_checker import check_env as gymnasium_check_env
from stable_baselines3.common.env_checker import check_env as sb3_check_env

from procosm.envs import TASKS
from procosm.envs.dreams.weights import SHIPPED
from procosm.world_model.data.task import Task

USUAL = ("symmetric and normalized", "observation space m")  # forces in newtons, states without bounds: as in MuJoCo


def checked(env: gym.Env) -> None:
    """Both checkers, and every warning that is not about the task's own units."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gymnasium_check_env(env)
        sb3_check_env(env)
    said = [str(warning.message) for warning in caught]
    assert not [line for line in said if not any(usual in line for usual in USUAL)]


@pytest.mark.parametrize("name", TASKS)
def test_dream_and_truth_share_their_spaces_and_pass_both_checkers(name: str, checkpoint_of: Callable[[Task], Path]):
    for observation in ("pixels", "state"):
        truth = gym.make(f"Procosm/{name}Truth-v0", observation=observation, render_mode="rgb_array").unwrapped
        folder = str(checkpoint_of(truth.task))
        dream = gym.make(
            f"Procosm/{name}-v0", checkpoint=folder, observation=observation, render_mode="rgb_array"
        ).unwrapped
        assert dream.observation_space == truth.observation_space and dream.action_space == truth.action_space
        assert dream.task == truth.task
        checked(dream)
        truth.close()


@pytest.mark.parametrize("name", sorted(path.name for path in SHIPPED.iterdir()))
def test_weights_that_ship_open_by_their_id_alone(name: str):
    checked(gym.make(f"Procosm/{name}-v0", render_mode="rgb_array").unwrapped)
