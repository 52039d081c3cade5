"""What a clip shows, in words: an interface that any captioner fits, and one that needs no model."""

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from procosm.world_model.data.task import Task


class Captioner(Protocol):
    """Puts clips into words; a vision-language model that a user has on disk fits here."""

    def caption(self, frames: np.ndarray, task: Task, text: str, tags: Sequence[str]) -> str:
        """One paragraph about a clip.

        Args:
            frames: (n, H, W, 3) uint8, the views side by side. text: what was asked of the robot, "" if unknown.
            tags: what the filters saw, such as ``static camera``.
        """


class TemplateCaptioner:
    """The task, its views and the tags in a sentence."""

    def caption(self, frames: np.ndarray, task: Task, text: str, tags: Sequence[str]) -> str:
        """``Reacher-v5, seen by main for 2.0 s: static camera.``, or what was asked in place of the task."""
        views = " and ".join(view.name for view in task.views)
        seconds = (len(frames) - 1) * task.dt_s
        return f"{text or task.id}, seen by {views} for {seconds:.1f} s: {', '.join(tags) or 'no tags'}."
