"""Opens the two worlds a policy lives in, by id: many dreams to learn in, MuJoCo to be judged in."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper, VecFrameStack
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

import procosm.envs  # noqa: F401  (importing it registers the ids)
from procosm.agents.policy.vecenv import WorldModelVecEnv
from procosm.envs.collect.run_policy import STACK
from procosm.envs.dreams.reward import Reward
from procosm.envs.truth.mujoco import settings_of
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.task import Task


class ScaledReward(VecEnvWrapper):
    """Multiplies rewards by a constant, so that a critic's targets stay near 1; episode statistics stay in real units.

    Args:
        venv: the environments. factor: positive.
    """

    def __init__(self, venv: VecEnv, factor: float) -> None:
        super().__init__(venv)
        self.factor = factor

    def reset(self) -> VecEnvObs:
        """Begin new episodes."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step; rewards (n,) are scaled."""
        observed, rewards, dones, infos = self.venv.step_wait()
        return observed, rewards * np.float32(self.factor), dones, infos


class JoinedViews(VecEnvWrapper):
    """Pixels of several views, which environments show by name, as the one picture that a policy sees: side by side.

    Args:
        venv: environments that show pixels alone. task: theirs.
    """

    def __init__(self, venv: VecEnv, task: Task) -> None:
        super().__init__(venv, observation_space=gym.spaces.Box(0, 255, task.frame_shape, np.uint8))
        self.task = task

    def reset(self) -> VecEnvObs:
        """Begin new episodes."""
        return self.task.join(self.venv.reset())

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step; the last frames of episodes that ended are joined too."""
        observed, rewards, dones, infos = self.venv.step_wait()
        for slot in np.flatnonzero(dones):
            infos[slot]["terminal_observation"] = self.task.join(infos[slot]["terminal_observation"])
        return self.task.join(observed), rewards, dones, infos


def dreams(
    model: WorldModel,
    count: int,
    observation: str,
    horizon: int,
    gamma: float,
    trust_below: float | None = None,
    reward: Reward | None = None,
) -> VecEnv:
    """``count`` dreams of at most ``horizon`` steps to train in, their rewards multiplied by ``reward_scale``.

    Below ``trust_below`` a dream is cut, as at its horizon. ``reward`` stands in place of the model's own, as in
    ``procosm.envs.dreams.reward``; published models have none.
    """
    batch = gym.make_vec(
        "Procosm/World-v0",
        num_envs=count,
        checkpoint=model,
        observation=observation,
        max_episode_steps=horizon,
        trust_below=trust_below,
        reward=reward,
        starts="wide",  # practice begins where policies get, not only where the task does
        autoreset_mode="SAME_STEP",
    )
    counted = gym.wrappers.vector.RecordEpisodeStatistics(batch, buffer_length=count)
    scaled = ScaledReward(WorldModelVecEnv(counted), reward_scale(model, gamma))
    return stacked(scaled, observation, model.task)


def reward_scale(model: WorldModel, gamma: float) -> float:
    """10 (1 − γ) over the largest reward in the data: rewards multiplied by it have no discounted return beyond ±10.

    1 where no reward was logged: those of the user's own are left as they are.
    """
    largest = max(map(abs, model.reward_range or (0.0,)))
    return 10 * (1 - gamma) / largest if largest > 0 else 1.0


def truth(task: Task, observation: str) -> gym.Env:
    """The truth env of a saved task, frame for frame and step for step; it shows ``pixels`` or the true ``state``.

    Raises:
        TaskError: the task has no twin, or it is in a module that the user has not allowed to be imported.
    """
    return gym.make("Procosm/Truth-v0", observation=observation, disable_env_checker=True, **settings_of(task))


def judged(checkpoint: Path, task: Task, observation: str, device: str = "cpu") -> VecEnv:
    """One truth env as SB3 wants it, seen from pixels alone as a policy trained on ``observation`` expects."""
    if observation == "pixels":
        return stacked(DummyVecEnv([lambda: Monitor(truth(task, "pixels"))]), observation, task)
    eyes: dict[str, Any] = {"checkpoint": str(checkpoint), "observation": observation, "device": device}
    return DummyVecEnv([lambda: Monitor(gym.make("Procosm/Truth-v0", **eyes))])


def stacked(env: VecEnv, observation: str, task: Task) -> VecEnv:
    """The last few frames together where a policy sees pixels, all views in one; otherwise ``env`` itself."""
    if observation != "pixels":
        return env
    joined = JoinedViews(env, task) if len(task.views) > 1 else env
    return VecFrameStack(joined, STACK, channels_order="last")
