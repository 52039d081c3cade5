"""One dataset of several tasks, for a world model that is to know more than one robot.

Actions are padded: each task's own, in units of its bounds, stand first, and zeros behind them. The name of its task is
what is said of an episode (``Episode.text``), before what was asked for in it: a model that takes words learns from it
which robot it sees, as from a task embedding. States, and signals that not all tasks have alike, are left out.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from tqdm import tqdm

from procosm.world_model.data.datasets import load_episodes, load_task
from procosm.world_model.data.episodes import Episode, write_dataset
from procosm.world_model.data.task import Task
from procosm.world_model.errors import DatasetError
from procosm.world_model.folders import check_apart, check_out
from procosm.world_model.provenance import provenance
from procosm.world_model.settings import Settings


@dataclass(frozen=True)
class MixConfig(Settings):
    """Which datasets to mix, and where to put what comes of it."""

    data: Annotated[tuple[Path, ...], Field(min_length=2)]
    """Datasets (RUN/data) or shards, two or more; their frames must be of one size."""
    out: Path
    """Run folder; the dataset goes to OUT/data."""


def mix(config: MixConfig) -> Path:
    """Write the mixture to ``OUT/data``; returns it.

    Raises:
        DatasetError: frames of different sizes, or there is a dataset already.
    """
    for folder in config.data:
        check_apart(config.out, folder)
    check_out(config.out)
    tasks = [load_task(folder) for folder in config.data]
    mixture = joint_task(tasks)
    lost = sorted({name for task in tasks for name in task.signals} - set(mixture.signals))
    if lost:
        tqdm.write(f"left out, for the tasks do not have it alike: {', '.join(lost)}", file=sys.stderr)

    def episodes() -> Iterator[tuple[Episode, None]]:
        for folder, task in zip(config.data, tasks, strict=True):
            for episode in load_episodes(folder, frames_on_disk=True):
                yield padded(episode, task, mixture), None

    origin = provenance({"mix": config}) | {"tasks": [task.id for task in tasks]}
    write_dataset(config.out / "data", mixture, episodes(), origin, env_spec=None)
    return config.out / "data"


def joint_task(tasks: list[Task]) -> Task:
    """The task of a mixture: actions in [-1, 1], as many as any of the tasks has, and the signals that all have alike.

    Raises:
        DatasetError: frames of different sizes, or views of different widths.
    """
    first, size = tasks[0], max(len(task.action_low) for task in tasks)
    if len({(task.height, task.width) for task in tasks}) > 1:
        told = ", ".join(f"{task.id} has {task.height} by {task.width}" for task in tasks)
        raise DatasetError(f"frames of one model have one size, and {told}: collect them alike (--frame-size)")
    if len({tuple(view.width for view in task.views) for task in tasks}) > 1:
        told = ", ".join(f"{task.id} has {', '.join(view.name for view in task.views)}" for task in tasks)
        raise DatasetError(
            f"frames of one model have views of the same widths, and {told}: collect them alike (--camera)"
        )
    alike = {
        name: signal
        for name, signal in first.signals.items()
        if name != "state" and all(task.signals.get(name) == signal for task in tasks)
    }
    return Task(
        id=f"mixture-{len(tasks)}",
        views=first.views,
        action_low=(-1.0,) * size,
        action_high=(1.0,) * size,
        action_repeat=1,
        dt_s=float(np.mean([task.dt_s for task in tasks])),
        max_episode_steps=max(task.max_episode_steps for task in tasks),
        signals=alike,
    )


def padded(episode: Episode, task: Task, mixture: Task) -> Episode:
    """An episode of one task as one of the mixture."""
    low, high = task.bounds
    unit = np.clip(2 * (episode.actions - low) / (high - low) - 1, -1, 1).astype(np.float32)
    missing = len(mixture.action_low) - unit.shape[1]
    return replace(
        episode,
        frames=np.asarray(episode.frames[:]),
        actions=np.pad(unit, ((0, 0), (0, missing))),
        terminated=episode.terminated and "termination" in mixture.signals,
        signals={name: values for name, values in episode.signals.items() if name in mixture.signals},
        text=f"{task.id}: {episode.text}" if episode.text else task.id,
    )
