"""What an environment tells Gymnasium of itself: a spec that JSON can hold, and who cuts its episodes.

``gym.make`` owns ``max_episode_steps``: it never passes it on, and wraps what it made in ``TimeLimit`` if a number is
given or registered. No number can be registered with our ids, for an episode is as long as the task of the checkpoint
says; so their entry points put that limit on themselves, unless ``gym.make`` was asked for another or for none (-1).
"""

import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from enum import Enum
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import EnvSpec

from procosm.world_model.errors import TaskError
from procosm.world_model.hub import is_hub_id

NO_LIMIT = -1
"""What Gymnasium calls an episode that nothing cuts."""


def checked_limit(max_episode_steps: object) -> int | None:
    """A time limit as an int, ``NO_LIMIT`` included; None where the task's own is meant.

    Raises:
        TaskError: anything else.
    """
    if max_episode_steps is None:
        return None
    whole = isinstance(max_episode_steps, int | np.integer) and not isinstance(max_episode_steps, bool)
    if not whole or not (max_episode_steps == NO_LIMIT or max_episode_steps >= 1):  # type: ignore[operator]
        raise TaskError(
            f"max_episode_steps={max_episode_steps!r}: give a number of steps, at least 1, -1 for no limit, or None "
            "for the task's own"
        )
    return int(max_episode_steps)  # type: ignore[call-overload]


def with_time_limit(env: gym.Env, own: int) -> gym.Env:
    """An endless environment with the time limit that is its own (``NO_LIMIT``: none), unless ``gym.make`` has another.

    To be called by an entry point itself: of ``max_episode_steps`` Gymnasium tells it nothing, so that it is read where
    ``gym.make`` keeps it.
    """
    caller = sys._getframe(2)
    asked = None
    if caller.f_code is gym.make.__code__:
        asked = caller.f_locals.get("max_episode_steps")
        if asked is None:
            asked = caller.f_locals["env_spec"].max_episode_steps
    if asked == NO_LIMIT:
        env.unwrapped.time_limit = NO_LIMIT  # type: ignore[attr-defined]
    return env if asked is not None or own == NO_LIMIT else gym.wrappers.TimeLimit(env, own)


class PortableSpec:
    """Mixed into environments: whatever ``gym.make`` was given, ``spec`` can be pickled and written as JSON.

    Paths become absolute strings, so that a spec opens the same files from another folder; NumPy's numbers and arrays,
    tuples and enumerations become what JSON has. A world model given as an object stays one.

    Attributes:
        time_limit: steps after which the environment itself cuts an episode, or ``NO_LIMIT``: what ``spec`` says then,
            because ``gym.make_vec``, and ``gym.make`` of ``NO_LIMIT``, do not; None where it is ``TimeLimit``'s matter.
    """

    time_limit: int | None = None
    _spec: EnvSpec | None = None

    @property
    def spec(self) -> EnvSpec | None:
        """How to make this environment again."""
        return self._spec

    @spec.setter
    def spec(self, spec: EnvSpec | None) -> None:
        if spec is not None:
            kwargs = portable(spec.kwargs)
            if self.time_limit == NO_LIMIT:
                spec = dataclasses.replace(spec, max_episode_steps=None)
                kwargs["max_episode_steps"] = NO_LIMIT
            elif self.time_limit is not None:
                spec = dataclasses.replace(spec, max_episode_steps=self.time_limit)
                kwargs.pop("max_episode_steps", None)
            spec = dataclasses.replace(spec, kwargs=kwargs)
        self._spec = spec


def portable(kwargs: dict[str, Any]) -> dict[str, Any]:
    """An environment's keywords as JSON can hold them; ``checkpoint`` is a path, or a name on the Hub."""
    made = {key: plain(value) for key, value in kwargs.items()}
    if isinstance(made.get("checkpoint"), str) and not is_hub_id(made["checkpoint"]):
        made["checkpoint"] = absolute(made["checkpoint"])
    return made


def absolute(path: str | os.PathLike) -> str:
    """A path from the root, with ``~`` written out."""
    return os.path.abspath(Path(path).expanduser())  # noqa: PTH100 (Path.resolve would follow links)


def plain(value: Any) -> Any:
    """A value as JSON can hold it: absolute paths, lists, names of enumerations and devices, Python's numbers."""
    if isinstance(value, os.PathLike):
        return absolute(value)
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if "torch" in sys.modules and isinstance(value, sys.modules["torch"].device):  # a truth env needs no torch
        return str(value)
    if isinstance(value, Mapping):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [plain(each) for each in value]
    return value
