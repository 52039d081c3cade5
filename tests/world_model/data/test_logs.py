"""Every format gives the same episodes; what is written comes back; what contradicts itself is refused."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from procosm.world_model.data.episodes import load_episodes, load_task
from procosm.world_model.data.ingest import ExportConfig, IngestConfig, export, ingest
from procosm.world_model.data.lerobot_writer import code, write_lerobot
from procosm.world_model.data.logs import LogsConfig, held_out, open_logs, read_log
from procosm.world_model.data.rows import seconds
from procosm.world_model.errors import DatasetError
from tests.world_model.curation import scenes
from tests.world_model.data.formats import EPISODES, FORMATS, FPS, NEEDS_FPS, WITH_ENDS, WITH_TEXT


@pytest.fixture(scope="session")
def written(tmp_path_factory):
    return {kind: write(tmp_path_factory.mktemp("formats") / "logs") for kind, write in FORMATS.items()}


def opened(kind, path, **changes):
    return open_logs(LogsConfig(data=path, fps=float(FPS) if kind in NEEDS_FPS else None, **changes))


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_gives_the_same_episodes(kind, written):
    logs = opened(kind, written[kind], views=("front", "wrist"))
    assert [view.name for view in logs.task.views] == ["front", "wrist"] and logs.task.dt_s == pytest.approx(0.05)
    assert len(logs.names) == len(EPISODES)
    for name, expected in zip(logs.names, EPISODES, strict=True):
        log = read_log(logs, name)
        np.testing.assert_array_equal(log.episode.frames, expected.frames)
        np.testing.assert_array_equal(log.episode.actions, expected.actions)
        for signal in ("proprio", "reward"):
            np.testing.assert_array_equal(log.episode.signals[signal], expected.signals[signal], err_msg=signal)
        assert log.episode.text == (expected.text if kind in WITH_TEXT else "")
        assert log.episode.terminated == (expected.terminated and kind in WITH_ENDS)
        np.testing.assert_allclose(log.times_s, np.arange(len(expected.frames)) * 0.05, atol=1e-6)


@pytest.mark.parametrize("kind", FORMATS)
def test_cameras_are_chosen_ordered_and_scaled(kind, written):
    logs = opened(kind, written[kind], views=("wrist",), height=24)
    assert [(v.name, v.height, v.width) for v in logs.task.views] == [("wrist", 24, 24)]
    assert read_log(logs, logs.names[0]).episode.frames.shape[1:] == (24, 24, 3)
    with pytest.raises(DatasetError, match=r"no camera left; it has"):
        opened(kind, written[kind], views=("left",))


@pytest.mark.parametrize("kind", FORMATS)
def test_a_wrong_rate_is_refused(kind, written):
    if kind in NEEDS_FPS:
        with pytest.raises(DatasetError, match=r"does not say how many frames .*--fps"):
            open_logs(LogsConfig(data=written[kind]))
        return
    with pytest.raises(DatasetError, match=r"20 frames per second, not --fps 25"):
        open_logs(LogsConfig(data=written[kind], fps=25.0))


@pytest.mark.parametrize("kind", FORMATS)
def test_logs_become_a_dataset_of_ours(kind, written, tmp_path):
    data = ingest(IngestConfig(data=written[kind], out=tmp_path, fps=20.0, views=("front", "wrist")))
    episodes = load_episodes(data)
    assert [e.kind for e in episodes].count("holdout") == 1
    assert load_task(data).twin is None and load_task(data).frame_shape == scenes.TWO_VIEWS.frame_shape
    for e, expected in zip(episodes, EPISODES, strict=True):
        np.testing.assert_array_equal(e.frames, expected.frames)
        np.testing.assert_array_equal(e.actions, expected.actions)


def test_an_exported_dataset_comes_back_with_every_action_and_signal(written, tmp_path):
    import minari

    first = ingest(IngestConfig(data=written["minari"], out=tmp_path / "run", fps=20.0))
    out = export(ExportConfig(data=first, out=tmp_path / "lerobot"))
    logs = open_logs(LogsConfig(data=out, views=tuple(view.name for view in load_task(first).views)))
    for name, e in zip(logs.names, load_episodes(first), strict=True):
        there = read_log(logs, name).episode
        np.testing.assert_array_equal(there.actions, e.actions)
        assert there.signals.keys() == e.signals.keys() and there.terminated == e.terminated
        for signal, values in e.signals.items():
            np.testing.assert_array_equal(there.signals[signal], values)
        error = np.square(there.frames.astype(float) - e.frames).mean()
        assert 10 * np.log10(255**2 / error) > 28  # saturated edges, and half the colour's resolution
    back = export(ExportConfig(data=out, out=tmp_path / "minari", to="minari"))
    dataset = minari.MinariDataset(back)
    assert dataset.total_steps == sum(len(e.actions) for e in EPISODES)
    np.testing.assert_array_equal(dataset[1].actions, EPISODES[1].actions)


def test_what_is_exported_is_read_by_pandas_as_lerobot_reads_it(tmp_path):
    import json

    pandas = pytest.importorskip("pandas")
    task = replace(scenes.TWO_VIEWS, id="push")
    write_lerobot(tmp_path / "out", task, (code(episode, task) for episode in EPISODES))
    info = json.loads((tmp_path / "out/meta/info.json").read_text())
    tasks = pandas.read_parquet(tmp_path / "out/meta/tasks.parquet")
    assert tasks.loc[EPISODES[1].text].task_index == 1
    episodes = pandas.read_parquet(tmp_path / "out/meta/episodes")
    data = pandas.read_parquet(tmp_path / "out/data")
    assert len(data) == info["total_frames"] == sum(len(e.frames) for e in EPISODES)
    assert set(data.columns) == {key for key, each in info["features"].items() if each["dtype"] != "video"}
    for _, row in episodes.iterrows():
        part = data.iloc[row.dataset_from_index : row.dataset_to_index]
        assert set(part.episode_index) == {row.episode_index} and list(part.frame_index) == list(range(row.length))
        for view in task.views:
            key = f"videos/observation.images.{view.name}"
            place = {"chunk_index": row[f"{key}/chunk_index"], "file_index": row[f"{key}/file_index"]}
            assert (tmp_path / "out" / info["video_path"].format(video_key=key[7:], **place)).exists()
    stats = json.loads((tmp_path / "out/meta/stats.json").read_text())
    np.testing.assert_allclose(stats["action"]["mean"], np.stack(data.action).mean(0), rtol=1e-6)
    assert np.shape(stats["observation.images.front"]["mean"]) == (3, 1, 1)


@pytest.mark.parametrize(("scale", "unit"), [(1, "s"), (1e3, "ms"), (1e6, "us"), (1e9, "ns")])
def test_timestamps_of_any_unit_are_seconds(scale, unit):
    found = seconds((1_700_000_000 + np.arange(9) * 0.05) * scale, 0.05, "log")
    np.testing.assert_allclose(found, np.arange(9) * 0.05, atol=1e-4, err_msg=unit)


@pytest.mark.parametrize(
    ("stamps", "said"),
    [
        ([0, 0.05, np.nan, 0.15], "row 2 is not finite"),
        ([0, 0.05, 0.05, 0.15], "row 2 .* is not after"),
        ([0, 0.2, 0.4, 0.6], "in no unit"),
    ],
)
def test_stamps_that_make_no_clock_are_refused(stamps, said):
    with pytest.raises(DatasetError, match=said):
        seconds(np.array(stamps), 0.05, "log")


@pytest.mark.parametrize(
    ("count", "share", "held"), [(10, 0.1, 1), (100, 0.1, 10), (1, 0.5, 0), (3, 0.1, 1), (7, 0, 0)]
)
def test_held_out_recordings_lie_among_the_others(count, share, held):
    names = [str(n) for n in range(count)]
    found = sorted(int(name) for name in held_out(names, share))
    assert len(found) == held
    if held > 1:
        assert max(np.diff(found)) - min(np.diff(found)) <= 1


def test_nothing_that_can_be_read_is_said_so(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(DatasetError, match=r"holds no logs that can be read"):
        open_logs(LogsConfig(data=tmp_path))
    with pytest.raises(DatasetError, match=r"does not exist"):
        open_logs(LogsConfig(data=tmp_path / "none"))


def test_an_export_does_not_overwrite(tmp_path, written):
    out = shutil.copytree(written["numpy"], tmp_path / "full")
    with pytest.raises(Exception, match=r"holds log0.npz"):
        export(ExportConfig(data=written["robomimic"], out=out))
