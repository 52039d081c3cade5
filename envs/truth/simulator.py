"""What every simulator of a task looks like: plain control steps, with the task's own state, reward and ends.

Cameras, action repeat, time limits and seeds of segments are other files' business.
"""

from typing import Protocol

import numpy as np

from procosm.envs.truth.backend import mujoco

DEFAULT_STEPS = 1000


class Simulator(Protocol):
    """One task, stepped at its own control rate.

    Attributes:
        action_low, action_high: (a,) float32, finite.
        state_size: length of the state.
        max_steps: control steps after which the task's authors end an episode.
        dt_s: seconds of simulated time for each control step.
        reads_state: whether :meth:`state` can be asked; if not, a state is known after a reset or a step alone.
        instruction: what is asked for in words in this episode; "" in tasks that ask for nothing.
        success: whether the last step reached the task's goal; None where the task tells of none.
    """

    action_low: np.ndarray
    action_high: np.ndarray
    state_size: int
    max_steps: int
    dt_s: float
    reads_state: bool
    instruction: str
    success: bool | None

    @property
    def model(self) -> mujoco.MjModel: ...
    @property
    def data(self) -> mujoco.MjData: ...

    def reset(self, seed: int | None, instruction: str | None = None) -> np.ndarray:
        """Start an episode; returns the state, float32 (s,). None goes on drawing where the last reset stopped.

        Args:
            instruction: what to ask for in words; None leaves it to the task.

        Raises:
            TaskError: the task cannot be asked for that.
        """

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool]:
        """One control step: state, reward, whether the task ended for good, and whether it was cut off."""

    def state(self) -> np.ndarray:
        """The state, float32 (s,), of ``data`` as it is now.

        Raises:
            TaskError: the task cannot tell it.
        """

    def close(self) -> None:
        """Free what the task holds."""


def finite_bounds(low: np.ndarray, high: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bounds of actions as float32; an actuator without limits gets -1 to 1: policies need something finite.

    dm_control writes MuJoCo's largest number, 1e10, where there is no limit.
    """
    low, high = np.asarray(low, np.float32), np.asarray(high, np.float32)
    return (
        np.where(np.abs(low) < mujoco.mjMAXVAL, low, np.float32(-1)),
        np.where(np.abs(high) < mujoco.mjMAXVAL, high, np.float32(1)),
    )
