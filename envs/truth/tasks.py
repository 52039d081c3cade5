"""Opens a simulator by its name: any Gymnasium MuJoCo task, or any of dm_control's suite."""

import json
from collections.abc import Mapping
from typing import Any

from procosm.envs.truth.control_task import PREFIX, ControlTask
from procosm.envs.truth.gymnasium_task import GymnasiumTask
from procosm.envs.truth.simulator import Simulator
from procosm.world_model.errors import TaskError


def open_task(name: str, env_kwargs: Mapping[str, Any] | None = None) -> Simulator:
    """The simulator called ``name``, made with ``env_kwargs``; a module in its name is imported.

    Args:
        name: a Gymnasium id such as ``Reacher-v5`` or ``module:Mine-v0``, or ``dm_control/<domain>-<task>``.
        env_kwargs: keyword arguments of the task, JSON values.

    Raises:
        TaskError: no such task, or its package is not installed, or it does not run on MuJoCo.
    """
    if name.startswith("Procosm/"):
        raise TaskError(f"{name!r} is an environment of procosm, and a task is wanted: give a MuJoCo task's own id")
    if name.startswith(PREFIX):
        return ControlTask(name, env_kwargs or {})
    return GymnasiumTask(name, env_kwargs or {})


def checked_kwargs(env_kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """A task's keyword arguments as they are saved with it.

    Raises:
        TaskError: they are no JSON object.
    """
    try:
        values = json.loads(json.dumps(dict(env_kwargs or {}), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise TaskError(
            f"env_kwargs {env_kwargs!r} must be a dict of JSON values, which are saved with the task: {error}"
        ) from error
    return values


def parse_kwargs(text: str) -> dict[str, Any]:
    """The keyword arguments that a command was given as text, a JSON object.

    Raises:
        TaskError: it is none.
    """
    try:
        values = json.loads(text or "{}")
    except ValueError as error:
        raise TaskError(f"--env-kwargs {text!r} is no JSON ({error}): give '{{\"name\": value}}'") from error
    if not isinstance(values, dict):
        raise TaskError(f"--env-kwargs {text!r} is no JSON object: give '{{\"name\": value}}'")
    return values
