"""A reward of the user's own, made of what a world model tells of a step, for dreams whose log had none."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from procosm.world_model.errors import TaskError
from procosm.world_model.model import WorldModel

Reward = Callable[[Mapping[str, np.ndarray]], Any]
"""From a :class:`Told` of n dreams to their (n,) rewards."""


class Told(Mapping[str, np.ndarray]):
    """All that is told of one step of n dreams, by name; each worked out when it is asked for.

    ``action`` (n, a), ``latents`` (n, c, h, w), ``frames`` (n, H, W, 3) uint8, which are decoded for it, and whatever
    the model reads out: ``state`` (n, s), ``termination`` (n,), ``features`` (n, f), ``reward`` (n,). Of a step of
    several frames it is told of each, of ``action`` and ``frames``, and the rewards are added.
    """

    def __init__(self, sources: Mapping[str, Callable[[], np.ndarray]]) -> None:
        self._sources = sources

    def __getitem__(self, name: str) -> np.ndarray:
        return self._sources[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._sources)

    def __len__(self) -> int:
        return len(self._sources)


def checked_reward(reward: Reward | None, model: WorldModel) -> Reward | None:
    """The reward that the user gives; None leaves it to the model.

    Raises:
        TaskError: it cannot be called, or is missing where the model has learned none.
    """
    if reward is not None and not callable(reward):
        raise TaskError(
            f"reward={reward!r:.60}: give a function of what the model tells, as in procosm.envs.dreams.reward"
        )
    if reward is None and "reward" not in model.capabilities:
        raise TaskError(
            f"the world model of {model.task.id} has learned no reward: give reward=FUNCTION, which makes (n,) rewards "
            'of what is told of a step, such as lambda told: -abs(told["frames"].mean((1, 2, 3)) - 128.0). It can '
            f"read action, latents, frames and {', '.join(sorted(model.dynamics.readouts)) or 'nothing else'}"
        )
    return reward


def no_reward(told: Mapping[str, np.ndarray]) -> np.ndarray:
    """(n,) zeros: lets dreams of a model that has learned no reward be stepped where nobody looks at rewards."""
    return np.zeros(len(told["action"]))


def rewards(reward: Reward, told: Told, count: int) -> np.ndarray:
    """(n,) float64, what the user's function gives for a step of ``count`` dreams.

    Raises:
        TaskError: it asks for what nobody tells, or gives anything but a finite number for each dream.
    """
    try:
        found = np.asarray(reward(told), np.float64)
    except KeyError as error:
        raise TaskError(f"reward= asks for {error}, and this world model tells {', '.join(told)}") from error
    if found.shape != (count,) or not np.isfinite(found).all():
        raise TaskError(f"reward= gave {found!s:.80} for {count} dreams: give an array ({count},) of finite numbers")
    return found
