"""What the package ``lerobot`` writes is read here, and what is exported here it reads.

``lerobot_0_4_4`` beside this file was written by lerobot 0.4.4 (``write_with_lerobot``; its video is AV1). The package
asks for so many others that it is not installed with procosm: the last two tests run where it is.
"""

from pathlib import Path

import numpy as np
import pytest

from procosm.world_model.data.lerobot_writer import code, write_lerobot
from procosm.world_model.data.logs import LogsConfig, open_logs, read_log
from tests.world_model.curation import scenes

WRITTEN = Path(__file__).with_name("lerobot_0_4_4")
FILMS = [scenes.episode(seed, 20 + seed) for seed in range(3)]


def check(path: Path) -> None:
    """Actions and states to the bit; video as far as its codec gives it back."""
    logs = open_logs(LogsConfig(data=path))
    assert [view.name for view in logs.task.views] == ["front"] and logs.task.dt_s == 0.05
    for name, film in zip(logs.names, FILMS, strict=True):
        log = read_log(logs, name)
        np.testing.assert_array_equal(log.episode.actions, film.actions)
        np.testing.assert_array_equal(log.episode.signals["proprio"], film.signals["proprio"])
        assert log.episode.text == film.text
        error = np.sqrt(np.square(log.episode.frames.astype(float) - film.frames).mean())
        assert error < 9  # of 255, measured 8.0: half the colour's resolution, on tiles of six pixels of all colours
        np.testing.assert_allclose(log.times_s, np.arange(len(film.frames)) * 0.05, atol=1e-6)


def write_with_lerobot(path: Path) -> None:
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    vector = {"dtype": "float32", "shape": (2,), "names": ["x", "y"]}
    shape = {"shape": (scenes.HEIGHT, scenes.WIDTH, 3), "names": ["height", "width", "channels"]}
    features = {"observation.images.front": {"dtype": "video", **shape}, "observation.state": vector, "action": vector}
    dataset = LeRobotDataset.create("procosm/push", 20, features, root=path, robot_type="square")
    for film in FILMS:
        actions = np.concatenate([film.actions, film.actions[-1:]])
        for frame, state, action in zip(film.frames, film.signals["proprio"], actions, strict=True):
            values = {"observation.images.front": frame, "observation.state": state, "action": action}
            dataset.add_frame({**values, "task": film.text})
        dataset.save_episode()
    dataset.finalize()


def test_a_dataset_that_lerobot_wrote_is_read():
    check(WRITTEN)


def test_lerobot_writes_what_is_read(tmp_path):
    pytest.importorskip("lerobot")
    write_with_lerobot(tmp_path / "written")
    check(tmp_path / "written")


def test_lerobot_opens_what_is_exported(tmp_path):
    pytest.importorskip("lerobot")
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    episodes = [scenes.episode(seed, 20 + seed, scenes.TWO_VIEWS) for seed in range(3)]
    write_lerobot(tmp_path / "out", scenes.TWO_VIEWS, (code(each, scenes.TWO_VIEWS) for each in episodes))
    dataset = LeRobotDataset("procosm/push", root=tmp_path / "out", video_backend="pyav")
    assert (dataset.num_episodes, dataset.fps) == (3, 20)
    for index, episode in enumerate(episodes):
        begin, end = (dataset.meta.episodes[f"dataset_{edge}_index"][index] for edge in ("from", "to"))
        items = [dataset[at] for at in range(begin, end)]
        np.testing.assert_array_equal(np.stack([item["action"] for item in items[:-1]]), episode.actions)
        np.testing.assert_array_equal(
            np.stack([item["observation.state"] for item in items]), episode.signals["proprio"]
        )
        assert {item["task"] for item in items} == {episode.text}
        for name, frames in scenes.TWO_VIEWS.split(episode.frames).items():
            shown = 255 * np.stack([item[f"observation.images.{name}"].numpy().transpose(1, 2, 0) for item in items])
            assert np.sqrt(np.square(shown - frames).mean()) < 10  # of 255
