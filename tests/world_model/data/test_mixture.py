"""Several tasks in one dataset: each action stands where it stood, its task's name is what is said of it."""

from dataclasses import replace

import numpy as np
import pytest

from procosm.world_model.data.episodes import Episode, load_episodes, load_task, write_dataset
from procosm.world_model.data.mixture import MixConfig, joint_task, mix
from procosm.world_model.data.task import Signal, View
from procosm.world_model.errors import DatasetError
from tests.conftest import simulated_task


def log(folder, name: str, actions: int, bound: float, text: str = "", side: int = 16):
    task = simulated_task(name, side, 3, bound=bound, actions=actions)
    task = replace(task, signals=task.signals | {f"only_{name[0]}": Signal((2,), "step")})
    generator = np.random.default_rng(len(name))
    episode = Episode(
        frames=generator.integers(0, 256, (6, side, side, 3), np.uint8),
        actions=generator.uniform(-bound, bound, (5, actions)).astype(np.float32),
        terminated=True,
        kind="train",
        signals={
            "state": np.zeros((6, 3), np.float32),
            "reward": np.arange(5, dtype=np.float32),
            f"only_{name[0]}": np.zeros((5, 2), np.float32),
        },
        text=text,
    )
    write_dataset(folder, task, [(episode, None)], {}, None)
    return folder, episode


def test_actions_are_padded_in_units_of_their_bounds_and_tasks_are_named(tmp_path, capsys):
    first, one = log(tmp_path / "a", "Arm-v0", 1, 4.0)
    second, two = log(tmp_path / "b", "Base-v0", 3, 0.5, text="go home")
    made = mix(MixConfig((first, second), tmp_path / "many"))
    task, (arm, base) = load_task(made), load_episodes(made)
    assert task.action_low == (-1.0,) * 3 and set(task.signals) == {"reward", "termination"} and task.twin is None
    assert np.allclose(arm.actions[:, :1], one.actions / 4) and not arm.actions[:, 1:].any()
    assert np.allclose(base.actions, two.actions * 2, atol=1e-6)
    assert (arm.text, base.text) == ("Arm-v0", "Base-v0: go home")
    assert np.array_equal(arm.frames, one.frames) and np.array_equal(base.signals["reward"], two.signals["reward"])
    assert arm.terminated and base.terminated
    assert "left out, for the tasks do not have it alike: only_A, only_B, state" in capsys.readouterr().err


def test_frames_of_different_sizes_are_refused(tmp_path):
    folders = [log(tmp_path / f"{side}", f"Size{side}-v0", 1, 1.0, side=side)[0] for side in (16, 24)]
    with pytest.raises(DatasetError, match="Size16-v0 has 16 by 16, Size24-v0 has 24 by 24"):
        mix(MixConfig(tuple(folders), tmp_path / "many"))


def test_frames_of_different_sizes_are_refused_where_tasks_have_one_name(tmp_path):
    folders = [log(tmp_path / f"{side}", "Arm-v0", 1, 1.0, side=side)[0] for side in (16, 24)]
    with pytest.raises(DatasetError, match="Arm-v0 has 16 by 16, Arm-v0 has 24 by 24"):
        mix(MixConfig(tuple(folders), tmp_path / "many"))
    assert not (tmp_path / "many").exists()


def test_views_of_different_widths_are_refused_though_the_frames_are_alike():
    """A model that tells views apart would take the first one's borders for everybody's."""
    arm, base = (replace(simulated_task(name, 16, 3), twin=None) for name in ("Arm-v0", "Base-v0"))
    base = replace(base, views=(View("left", 16, 8), View("right", 16, 8)))
    with pytest.raises(DatasetError, match="Arm-v0 has main, Base-v0 has left, right"):
        joint_task([arm, base])
