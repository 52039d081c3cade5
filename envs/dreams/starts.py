"""What dreams begin with: windows of real frames that a checkpoint holds, or frames that the user gives."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch

from procosm.envs.dreams.arguments import numbers, whole
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.errors import TaskError
from procosm.world_model.interface import Condition

GIVEN = -1
"""The window of a dream that begins with given frames."""


class Start(NamedTuple):
    """What k dreams begin with.

    Attributes:
        latents: (k, context, c, h, w), newest last. actions: (k, context - 1, a), what was done between them, NaN where
            nobody knows.
        said: k texts, what each is told in words, "" where nothing; () of a model that takes no words.
        shown: how many of the latents there are, the oldest of which stands for those before it; None: all. Of 0 the
            dream draws its first frame itself, and ``latents`` are zeros.
    """

    latents: torch.Tensor
    actions: torch.Tensor
    said: tuple[str, ...] = ()
    shown: int | None = None

    def condition(self, model: WorldModel) -> Condition | None:
        """What the dynamics of a model are told beside the latents."""
        done = None if self.actions.isnan().all() else Condition(actions=self.actions)
        return replace(done or Condition(), text=model.embed_text(self.said)) if model.takes_words else done


class Windows:
    """The start windows of a checkpoint: held-out ones come first, then those of the task's own reset, then those of
    what it learned from.

    Of the task's own reset the first frame stands for the past as well.

    Attributes:
        usable: (k,) int64, the windows that a dream may begin with.
        count: how many there are in all.
    """

    def __init__(self, model: WorldModel, starts: str | Sequence[int]) -> None:
        """``starts``: ``task``, ``wide`` or indices, as ``Dreams`` has them; a TaskError for anything else."""
        self._model = model
        self._own = len(model.starts) + (0 if model.resets is None else len(model.resets))
        self.count = self._own + (0 if model.practice is None else len(model.practice.latents))
        self.usable = self._usable(starts)

    def _usable(self, starts: str | Sequence[int]) -> np.ndarray:
        held_out = len(self._model.starts)
        if isinstance(starts, str) and starts == "wide":
            return np.concatenate([np.arange(held_out), np.arange(self._own, self.count)])
        if isinstance(starts, str) and starts == "task":
            if self._own > held_out:
                return np.arange(held_out, self._own)
            if "published" not in self._model.provenance:  # whose start frames are all there is
                _say_that_starts_are_wide(self._model.task.id)
            return np.arange(held_out)
        windows = numbers(starts, "starts")
        if windows.ndim != 1 or windows.dtype.kind not in "iu" or not len(windows):
            raise TaskError(f"starts={starts!r}: give 'task', 'wide', or the indices of windows below {self.count}")
        return np.array([self.checked(window) for window in windows.tolist()])

    def checked(self, window: object) -> int:
        """The index of a start window.

        Raises:
            TaskError: there is none such.
        """
        if not whole(window) or not 0 <= window < self.count:  # type: ignore[operator]
            last = self.count - 1
            raise TaskError(f"there is no start window {str(window)[:40]}: the checkpoint holds windows 0 to {last}")
        return int(window)  # type: ignore[call-overload]

    def start(self, windows: Sequence[int]) -> Start:
        """What dreams begin with that begin with these windows."""
        starts, resets, done = self._model.starts, self._model.resets, self._model.start_actions
        held_out, practice = len(starts), self._model.practice
        index = torch.tensor(windows, dtype=torch.int64, device=starts.device)
        there, own = index.clamp_max(held_out - 1), index >= held_out
        latents, actions = starts[there], unknown(self._model, len(index)) if done is None else done[there]
        if resets is not None:
            first = resets[(index - held_out).clamp(0, len(resets) - 1)][:, None]
            latents = torch.where(own.view(-1, 1, 1, 1, 1), first, latents)
            actions = torch.where(own.view(-1, 1, 1), torch.nan, actions)
        if practice is not None:
            learned, at = index >= self._own, (index - self._own).clamp_min(0)
            latents = torch.where(learned.view(-1, 1, 1, 1, 1), practice.latents[at].to(latents), latents)
            actions = torch.where(learned.view(-1, 1, 1), practice.actions[at], actions)
        return Start(latents, actions, self._said(windows))

    def _said(self, windows: Sequence[int]) -> tuple[str, ...]:
        """What was asked for where each window was logged."""
        model = self._model
        if model.start_texts is None:
            return ("",) * len(windows) if model.takes_words else ()
        practice = model.practice.texts if model.practice else None
        known = [
            text
            for texts in (model.start_texts, model.reset_texts, practice)
            if texts is not None
            for text in texts.tolist()
        ]
        return tuple(model.texts[known[window]] for window in windows)


def unknown(model: WorldModel, count: int) -> torch.Tensor:
    """(k, context - 1, a) actions that nobody knows."""
    shape = count, model.starts.shape[1] - 1, len(model.task.action_low)
    return torch.full(shape, torch.nan, device=model.starts.device)


def given_start(model: WorldModel, options: Mapping[str, Any], batch: tuple[int, ...]) -> Start | None:
    """What dreams begin with that begin with ``options["frames"]``; None where none are given.

    Args:
        options: of a reset. ``frames``: (*batch, t, H, W, 3) or, for one frame each, (*batch, H, W, 3) uint8, newest
            last; of several views a dict by name; () for none, where the model draws the first itself.
            ``actions``: (*batch, t - 1, a), what was done between them, in the task's own units, NaN where it is not
            known; without them nothing is known.
        batch: () for one dream, (n,) for n.

    Raises:
        TaskError: frames or actions of another shape or kind.
    """
    if "frames" not in options:
        if "actions" in options:
            raise TaskError("options['actions'] are what was done between options['frames']: give these, too")
        return None
    if "start" in options:
        raise TaskError("options['start'] and options['frames'] both say what a dream begins with: leave out one")
    if isinstance(options["frames"], tuple | list) and not options["frames"]:
        return _from_nothing(model, options, batch)
    frames = _frames(model, options["frames"], batch)
    actions = _actions(model, options.get("actions"), (*batch, frames.shape[len(batch)] - 1))
    frames, actions = (each if batch else each[None] for each in (frames, actions))
    context, device = model.starts.shape[1], model.starts.device
    if model.frames_per_step > 1:
        return Start(_coded_together(model, frames, context), unknown(model, len(frames)))
    latents = model.encode(frames[:, -context:]).to(model.starts.dtype)
    missing = context - latents.shape[1]
    latents = torch.cat([latents[:, :1].expand(-1, missing, -1, -1, -1), latents], dim=1)
    known = torch.from_numpy(actions).to(device)[:, max(0, actions.shape[1] - context + 1) :]
    before = unknown(model, len(known))[:, : context - 1 - known.shape[1]]
    said = ("",) * len(latents) if model.takes_words else ()
    return Start(latents, torch.cat([before, known], dim=1), said, context - missing)


def _from_nothing(model: WorldModel, options: Mapping[str, Any], batch: tuple[int, ...]) -> Start:
    """A start without any frame."""
    if model.fewest:
        raise TaskError(
            f"options['frames'] are empty, and the world model of {model.task.id} draws no first frame: give one, or "
            "train it with `procosm train --images .1`"
        )
    if "actions" in options:
        raise TaskError("options['actions'] are what was done between options['frames'], and these are empty")
    count = batch[0] if batch else 1
    said = ("",) * count if model.takes_words else ()
    return Start(torch.zeros_like(model.starts[:1]).repeat(count, 1, 1, 1, 1), unknown(model, count), said, 0)


def said(model: WorldModel, options: Mapping[str, Any], count: int) -> tuple[str, ...] | None:
    """What ``count`` dreams are told in words: ``options["instruction"]``, one text for all or one for each; None
    where there is none.

    Raises:
        TaskError: no text, or a model that takes none.
    """
    if "instruction" not in options:
        return None
    given = options["instruction"]
    texts = (given,) * count if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else ()
    if len(texts) != count or not all(isinstance(text, str) and len(text) <= 2000 for text in texts):
        raise TaskError(f"options['instruction'] is {given!r:.60}: give a text, or one for each of {count} dreams")
    if not model.takes_words:
        raise TaskError(
            f"options['instruction']: the world model of {model.task.id} takes no words, it is told "
            f"{', '.join(sorted(model.conditions))}; `procosm post-train --add text` teaches it"
        )
    return texts


def _coded_together(model: WorldModel, frames: np.ndarray, context: int) -> torch.Tensor:
    """(n, context, c, h, w) of the newest of (n, t, H, W, 3), as one video; before too few stands the first."""
    wanted = 1 + (context - 1) * model.tokenizer.spec.frames_per_latent
    video = frames[:, -wanted:]
    video = np.concatenate([video[:, :1]] * (wanted - video.shape[1]) + [video], axis=1)
    return model.tokenizer.encode(torch.from_numpy(video).to(model.starts.device)).to(model.starts.dtype)


def _frames(model: WorldModel, given: Any, batch: tuple[int, ...]) -> np.ndarray:
    """(*batch, t, H, W, 3) uint8."""
    names = [view.name for view in model.task.views]
    if isinstance(given, Mapping):
        if set(given) != set(names):
            raise TaskError(f"options['frames'] has views {sorted(map(str, given))}: give {', '.join(names)}")
        parts = {name: numbers(given[name], f"options['frames'][{name!r}]") for name in names}
        if len({part.shape[:-2] for part in parts.values()}) > 1 or any(part.ndim < 3 for part in parts.values()):
            raise TaskError(
                f"options['frames'] have shapes {[part.shape for part in parts.values()]}: give equally many"
            )
        given = model.task.join(parts)
    frames = numbers(given, "options['frames']")
    if frames.shape == (*batch, *model.task.frame_shape):
        frames = frames.reshape(*batch, 1, *model.task.frame_shape)
    wanted = (*batch, "t", *model.task.frame_shape)
    fits = frames.ndim == len(wanted) and all(w in (s, "t") for s, w in zip(frames.shape, wanted, strict=True))
    if not fits or frames.dtype != np.uint8 or not frames.shape[len(batch)]:
        said = ", ".join(map(str, wanted))
        raise TaskError(f"options['frames'] are {frames.dtype} {frames.shape}: give uint8 ({said}), t at least 1")
    return frames


def _actions(model: WorldModel, given: object, shape: tuple[int, ...]) -> np.ndarray:
    """(*shape, a) float32, within bounds, NaN where unknown."""
    low, high = model.task.bounds
    if given is None:
        return np.full((*shape, len(low)), np.nan, np.float32)
    actions = numbers(given, "options['actions']").astype(np.float64)
    if actions.shape != (*shape, len(low)) or np.isinf(actions).any():
        raise TaskError(
            f"options['actions'] have shape {actions.shape}: give {(*shape, len(low))}, one fewer than there are "
            "frames, finite, or NaN where an action is not known"
        )
    return np.clip(actions, low.astype(np.float64), high.astype(np.float64)).astype(np.float32)


@lru_cache(maxsize=64)  # once for each task is enough
def _say_that_starts_are_wide(task: str) -> None:
    logging.getLogger("procosm").warning(
        "the checkpoint of %s has no frames of its task's own reset, so its dreams begin with any held-out window; "
        "`python -m procosm.envs.truth.resets --world-model PATH` adds some",
        task,
    )
