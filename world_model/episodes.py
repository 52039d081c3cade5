"""What a world model is trained on: episodes on disk, read as arrays."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Task:
    """One task as a camera sees it: everything needed to make the truth env again, and the world-model env like it.

    Attributes:
        id: what ``gym.make`` or dm_control knows it by, such as ``Reacher-v5`` or ``dm_control/cartpole-swingup``.
        frame_size: height and width of a frame, pixels.
        action_repeat: simulator control steps for each step here.
        max_episode_steps: steps here after which an episode is truncated.
        dt_s: seconds of simulated time for each step here.
        action_low, action_high: bounds of each action.
        state_size: length of the true state, which is the task's own observation vector.
        camera: the camera's pose and settings as chosen for this task (JSON values), so that frames can be made again.
        renderer: ``egl``, ``osmesa`` or ``raycast``; pixels of different renderers never mix.
        version: version of the truth env; a change of pixels changes it.
    """

    id: str
    frame_size: int
    action_repeat: int
    max_episode_steps: int
    dt_s: float
    action_low: tuple[float, ...]
    action_high: tuple[float, ...]
    state_size: int
    camera: dict
    renderer: str
    version: int


@dataclass(frozen=True)
class Episode:
    """One logged episode of T steps.

    Attributes:
        frames: (T+1, H, W, 3) uint8.
        states: (T+1, s) float32, the task's own observation vector.
        actions: (T, a) float32. rewards: (T,) float32.
        terminated: whether the last step ended the episode for good (False: it was cut off).
        kind: ``train``, ``holdout`` (never trained on) or ``constant`` (held out, one action throughout: growth test).
    """

    frames: np.ndarray
    states: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool
    kind: str
