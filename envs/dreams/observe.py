"""What an environment shows: pixels, latents, state, or several of them, in the same spaces dreamed or real."""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium import spaces

from procosm.world_model.data.task import Task
from procosm.world_model.errors import TaskError
from procosm.world_model.model import WorldModel

KINDS = ("pixels", "latent", "state", "features")

Observed = Any
"""An array; a dict of them by kind, by view, or by kind and then by view."""


@dataclass(frozen=True)
class Observation:
    """Which kinds of observation an environment shows.

    Attributes:
        kinds: one or more of ``pixels``, ``latent``, ``state``, ``features``.
        alone: True shows the one kind as a bare array, False shows a dict with a key for each kind.
    """

    kinds: tuple[str, ...]
    alone: bool

    @classmethod
    def parse(cls, observation: str | Sequence[str]) -> "Observation":
        """Those named by an environment's ``observation`` argument.

        Raises:
            TaskError: an unknown, repeated or missing kind.
        """
        alone = isinstance(observation, str)
        listed = isinstance(observation, Sequence) and all(isinstance(kind, str) for kind in observation)
        kinds = (str(observation),) if alone else tuple(observation) if listed else ()
        if not kinds or len(set(kinds)) != len(kinds) or not set(kinds) <= set(KINDS):
            raise TaskError(
                f"observation={observation!r} is not something to show: give one of {', '.join(KINDS)}, "
                "or several different ones in a tuple"
            )
        return cls(kinds, alone)

    def space(self, task: Task, latents_shape: tuple[int, ...], read_sizes: Mapping[str, int]) -> spaces.Space:
        """The observation space, given the shape (context, c, h, w) of the latents and what is read off them."""
        every: dict[str, spaces.Space] = {
            "pixels": pixels_space(task),
            "latent": spaces.Box(-np.inf, np.inf, latents_shape, np.float32),
            **{name: spaces.Box(-np.inf, np.inf, (size,), np.float32) for name, size in read_sizes.items()},
        }
        return every[self.kinds[0]] if self.alone else spaces.Dict({kind: every[kind] for kind in self.kinds})

    def show(self, sources: Mapping[str, Callable[[], Observed]]) -> Observed:
        """An observation made by calling the sources of these kinds, and no others."""
        return sources[self.kinds[0]]() if self.alone else {kind: sources[kind]() for kind in self.kinds}


def pixels_space(task: Task) -> spaces.Space:
    """Of the one view of a task, (H, W, 3); a dict by name of several."""
    if len(task.views) == 1:
        return spaces.Box(0, 255, task.frame_shape, np.uint8)
    return spaces.Dict({view.name: spaces.Box(0, 255, (view.height, view.width, 3), np.uint8) for view in task.views})


def pixels_of(task: Task, frames: np.ndarray) -> Observed:
    """(…, H, W, 3) frames as an environment of this task shows them, each view an array of its own."""
    if len(task.views) == 1:
        return frames
    return {name: np.ascontiguousarray(part) for name, part in task.split(frames).items()}


def dream_space(shown: Observation, model: WorldModel) -> spaces.Space:
    """What a dream of this model, or a twin seen through it, shows.

    Raises:
        TaskError: the model does not tell what is to be shown.
    """
    told = {"state", "features"} & model.capabilities
    for kind in {"state", "features"} & set(shown.kinds) - told:
        others = ", ".join(repr(each) for each in ("pixels", "latent", *sorted(told)))
        remedy = ", or train on a log that has states" if kind == "state" else ""
        raise TaskError(
            f"observation={kind!r}, but the world model of {model.task.id} has learned none: observe {others}{remedy}"
        )
    return shown.space(model.task, tuple(model.starts.shape[1:]), model.read_sizes)


def row(observed: Observed, slot: int) -> Observed:
    """A copy of what one slot of a batch shows."""
    if isinstance(observed, dict):
        return {kind: row(values, slot) for kind, values in observed.items()}
    return observed[slot].copy()


def overwrite(observed: Observed, slots: np.ndarray, part: Observed) -> None:
    """Write what some slots show into a batch of observations, in place."""
    if isinstance(observed, dict):
        for kind, values in observed.items():
            overwrite(values, slots, part[kind])
    else:
        observed[slots] = part


def action_space(task: Task, frames: int = 1) -> spaces.Box:
    """The actions of a task, in its own units: (a,), or (k, a) where a step is ``frames`` = k > 1 frames."""
    low, high = (bound if frames == 1 else np.tile(bound, (frames, 1)) for bound in task.bounds)
    return spaces.Box(low, high, dtype=np.float32)


def checked_options(options: object, known: Sequence[str]) -> dict[str, Any]:
    """The options of a ``reset``, a dict of the caller's own.

    Raises:
        TaskError: not a dict, or one with other keys than ``known``.
    """
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise TaskError(f"reset options are a dict with {' and '.join(map(repr, known))} or less, not {options!r}")
    unknown = [key for key in options if key not in known]
    if unknown:
        raise TaskError(f"unknown reset options {unknown}: known are {' and '.join(map(repr, known))}")
    return dict(options)


def checked_seed(seed: object) -> int | None:
    """A seed as Gymnasium takes it, NumPy's whole numbers among them.

    Raises:
        TaskError: anything but None and a whole number from 0 up.
    """
    try:
        value = None if seed is None else operator.index(seed)  # type: ignore[arg-type]
    except TypeError:
        value = -1
    if value is not None and value < 0:
        raise TaskError(f"seed={seed!r}: give a whole number from 0 up, or None")
    return value


def host(tensor: torch.Tensor) -> np.ndarray:
    """A contiguous array of the caller's own; from a device by way of pinned memory, which is several times as fast."""
    if tensor.is_cuda:
        tensor = tensor.contiguous()
        tensor = torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor)
    return np.array(tensor.numpy(), order="C")
