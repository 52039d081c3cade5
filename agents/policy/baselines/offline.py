"""SAC that never acts: its memory is a log."""

from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.logger import Logger

from procosm.agents.policy.baselines.logged import Logged

BATCH = 256
"""Transitions in a gradient step."""


def learn_offline(learner: SAC, data: Logged, scale: float, steps: int, seed: int) -> None:
    """``steps`` gradient steps on logged transitions alone, their rewards multiplied by ``scale``."""
    learner.replay_buffer = memory(learner, data, scale)
    learner.set_logger(Logger(folder=None, output_formats=[]))
    learner.set_random_seed(seed)
    learner.train(steps, BATCH)


def memory(learner: SAC, data: Logged, scale: float) -> ReplayBuffer:
    """The logged transitions as SAC remembers its own: actions in −1…1, rewards scaled; a cut-off is no end."""
    n = len(data.seen)
    buffer = ReplayBuffer(n, learner.observation_space, learner.action_space, learner.device, n_envs=1)
    buffer.observations[:, 0], buffer.next_observations[:, 0] = data.seen.numpy(), data.after.numpy()
    buffer.actions[:, 0] = learner.policy.scale_action(data.actions.numpy())
    buffer.rewards[:, 0], buffer.dones[:, 0] = data.rewards.numpy() * scale, data.ends.numpy()
    buffer.full = True
    return buffer
