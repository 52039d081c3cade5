"""Steps a second of the dream and of MuJoCo, measured one after the other on the same machine."""

import os
import time

import gymnasium as gym
import numpy as np

from procosm.agents.policy.worlds import truth
from procosm.envs.dreams.reward import no_reward
from procosm.sparse.processes import worker_processes
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.task import Task


def speeds(model: WorldModel, dreams: int, processes: int, seconds: float = 2.0) -> dict[str, float]:
    """Environment steps a second, random actions.

    Args:
        dreams: dreams side by side in one process. processes: of MuJoCo, one environment each.
        seconds: how long each is measured, after a first stretch that is thrown away.

    Returns:
        ``dream_latent``, ``dream_state`` and ``dream_pixels`` (batched), ``dream_single`` (one dream, latents),
        ``mujoco`` (physics and rendering, all processes together), and with how many of each. Without a state in the
        model or a twin of the task, those are missing.
    """
    found: dict[str, float] = {"dreams": dreams, "processes": processes, "cores": float(os.cpu_count() or 1)}
    for name, observation, count in (
        ("dream_latent", "latent", dreams),
        ("dream_state", "state", dreams),
        ("dream_pixels", "pixels", dreams),
        ("dream_single", "latent", 1),
    ):
        if observation == "state" and "state" not in model.capabilities:
            continue
        reward = None if "reward" in model.capabilities else no_reward
        env = gym.make_vec("Procosm/World-v0", num_envs=count, checkpoint=model, observation=observation, reward=reward)
        found[name] = count * _calls_per_second(env, seconds)
        env.close()
    if model.task.twin is None:
        return found
    if processes == 1:
        found["mujoco"] = truth_speed(model.task, seconds)
    else:
        with worker_processes(processes) as pool:
            found["mujoco"] = sum(pool.map(truth_speed, [model.task] * processes, [seconds] * processes))
    return found


def truth_speed(task: Task, seconds: float, observation: str = "pixels") -> float:
    """Steps a second of one truth env in this process: physics and resets, and rendering where it shows ``pixels``."""
    env = gym.vector.SyncVectorEnv([lambda: truth(task, observation)])
    rate = _calls_per_second(env, seconds)
    env.close()
    return rate


def _calls_per_second(env: gym.vector.VectorEnv, seconds: float) -> float:
    env.reset(seed=0)
    env.action_space.seed(0)
    actions = [np.asarray(env.action_space.sample()) for _ in range(16)]
    _steps_within(env, actions, seconds / 4)  # first calls allocate, compile shaders, fill caches
    taken, spent = _steps_within(env, actions, seconds)
    return taken / spent


def _steps_within(env: gym.vector.VectorEnv, actions: list[np.ndarray], seconds: float) -> tuple[int, float]:
    taken, began = 0, time.perf_counter()
    while time.perf_counter() - began < seconds:
        env.step(actions[taken % len(actions)])
        taken += 1
    return taken, time.perf_counter() - began
