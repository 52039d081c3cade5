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
from procosm.envs.truth.mujoco import settings_of
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.task import Task

LEAST_TRUST = 0.05
"""Where trust is a matter of what the log has shown: a real moment lies as far from the known ones once in twenty."""
PIXEL_STACK = 3
"""Frames that a policy from pixels sees at once: one frame shows no motion."""


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


class WorstBeyondTrust(VecEnvWrapper):
    """A dream that was cut for want of trust is over, and every step it might have had would have earned the least.

    So practice keeps to what the log has shown, instead of making use of what a dream gets wrong elsewhere (as the HALT
    state of MOReL does, Kidambi et al. 2020, arXiv 2005.05951).

    Args:
        venv: dreams that tell their trust. trust_below: what they are cut at. worst: the least reward. gamma: discount.
    """

    def __init__(self, venv: VecEnv, trust_below: float, worst: float, gamma: float) -> None:
        super().__init__(venv)
        self.trust_below, self.worth = trust_below, worst * gamma / (1 - gamma)

    def reset(self) -> VecEnvObs:
        """Begin new episodes."""
        return self.venv.reset()

    def step_wait(self) -> VecEnvStepReturn:
        """Take the step."""
        observed, rewards, dones, infos = self.venv.step_wait()
        for slot in np.flatnonzero(dones):
            if infos[slot]["TimeLimit.truncated"] and infos[slot]["trust"] < self.trust_below:
                infos[slot]["TimeLimit.truncated"] = False
                rewards[slot] += self.worth
        return observed, rewards, dones, infos


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
    model: WorldModel, count: int, observation: str, horizon: int, gamma: float, trust_below: float | None = None
) -> VecEnv:
    """``count`` dreams of at most ``horizon`` steps to train in, their rewards multiplied by ``reward_scale``.

    Below ``trust_below`` a dream is cut, as at its horizon. Where trust is a matter of what the log has shown, a dream
    is cut below ``LEAST_TRUST`` unasked, and what follows is held for the worst that could be.
    """
    wary = trust_below is None and "features" in model.capabilities and model.trust is not None
    batch = gym.make_vec(
        "Procosm/World-v0",
        num_envs=count,
        checkpoint=model,
        observation=observation,
        max_episode_steps=horizon,
        trust_below=LEAST_TRUST if wary else trust_below,
        starts="wide",  # practice begins where policies get, not only where the task does
        autoreset_mode="SAME_STEP",
    )
    counted = gym.wrappers.vector.RecordEpisodeStatistics(batch, buffer_length=count)
    env: VecEnv = WorldModelVecEnv(counted)
    if wary and model.reward_range is not None:
        env = WorstBeyondTrust(env, LEAST_TRUST, model.reward_range[0], gamma)
    return stacked(ScaledReward(env, reward_scale(model, gamma)), observation, model.task)


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
    return VecFrameStack(joined, PIXEL_STACK, channels_order="last")
