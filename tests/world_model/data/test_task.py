"""What a task is: views side by side, signals, an optional twin; and the older form of it, which opens as before."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from procosm.world_model.data.task import MAIN, REWARD, Signal, Task, Twin, View, logged_signals, read_task
from procosm.world_model.errors import DatasetError, TaskError
from tests.conftest import simulated_task

OLD = {
    "id": "Reacher-v5",
    "frame_size": 48,
    "action_repeat": 2,
    "max_episode_steps": 25,
    "dt_s": 0.04,
    "action_low": [-1.0, -2.0],
    "action_high": [1.0, 2.0],
    "state_size": 10,
    "camera": {"lookat": [0.0, -0.0, 0.01], "azimuth": 90.0, "elevation": -90.0},
    "renderer": "osmesa",
    "version": 1,
    "env_kwargs": {"goal": 0.5},
}
"""As task.json and a checkpoint's config.json had it when a task was one square view of a simulator."""


def read(values: dict) -> Task:
    return read_task(values, "task.json", "restore it", DatasetError)


def test_an_older_task_is_the_same_task():
    camera = {"lookat": [0.0, -0.0, 0.01], "azimuth": 90.0, "elevation": -90.0}
    expected = Task(
        id="Reacher-v5",
        views=(View(MAIN, 48, 48),),
        action_low=(-1.0, -2.0),
        action_high=(1.0, 2.0),
        action_repeat=2,
        dt_s=0.04,
        max_episode_steps=25,
        signals=logged_signals(10),
        twin=Twin("Reacher-v5", {"goal": 0.5}, "osmesa", {MAIN: camera}, 10, 1),
    )
    assert read(OLD) == expected
    assert read({key: value for key, value in OLD.items() if key != "env_kwargs"}).twin.env_kwargs == {}
    assert read(json.loads(json.dumps(asdict(expected)))) == expected


@pytest.mark.parametrize("key", sorted(set(OLD) - {"env_kwargs", "frame_size"}))
def test_what_is_missing_of_an_older_task_is_named(key):
    with pytest.raises(DatasetError, match=rf"task\.json.*{key}.*restore it"):
        read({name: value for name, value in OLD.items() if name != key})


@pytest.mark.parametrize(
    ("key", "value"),
    [("frame_size", "48"), ("frame_size", 4), ("state_size", 0), ("camera", {"distance": -1.0}), ("renderer", "x")],
)
def test_wrong_values_of_an_older_task_are_refused(key, value):
    with pytest.raises(DatasetError, match=r"task\.json.*restore it"):
        read(OLD | {key: value})
    with pytest.raises(DatasetError, match="stranger"):
        read(OLD | {"stranger": 1})


@pytest.mark.parametrize("make", [np.array, torch.from_numpy])
def test_views_stand_side_by_side(make):
    task = replace(
        simulated_task("Linear-v0", 16, 2),
        views=(View("front", 16, 24), View("wrist", 16, 8)),
        twin=None,
    )
    frames = np.random.default_rng(0).integers(0, 256, (5, 2, 16, 32, 3), dtype=np.uint8)
    assert task.frame_shape == (16, 32, 3)
    front, wrist = task.split(make(frames)).values()
    assert np.array_equal(front, frames[..., :24, :]) and np.array_equal(wrist, frames[..., 24:, :])
    assert list(task.split(frames)) == ["front", "wrist"]


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"views": (View("a", 16, 16), View("a", 16, 16)), "twin": None}, "name of its own"),
        ({"views": (View("a", 16, 16), View("b", 24, 16)), "twin": None}, "the same height"),
        ({"views": (View("a", 16, 16),)}, "cameras"),
        ({"signals": {"pixels": REWARD}}, "pixels"),
        ({"signals": {"reward": Signal((2,), "step")}}, "reward"),
        ({"signals": {"termination": Signal((), "frame")}}, "termination"),
        ({"signals": {"state": Signal((2, 2), "frame")}}, "state"),
        ({"signals": {"state": Signal((2,), "step")}}, "state"),
        ({"action_low": (1.0,)}, "low below its high"),
    ],
)
def test_tasks_that_make_no_sense_are_refused(change, named):
    with pytest.raises(TaskError, match=named):
        replace(simulated_task("Linear-v0", 16, 2), **change)
