"""The same drawn logs in every format that is read, each written by a library of that format or by hand."""

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.video_stream import LOSSLESS, encode_part, join_parts
from tests.world_model.curation import scenes

DT_S, FPS = scenes.TASK.dt_s, 20
EPISODES = [scenes.episode(seed, 18 + seed, scenes.TWO_VIEWS) for seed in range(3)]


def rows(episode: Episode) -> np.ndarray:
    """Actions with one for the last frame, which no reader may use: it says 1e9."""
    return np.concatenate([episode.actions, np.full((1, 2), 0.5, np.float32)])


def views(episode: Episode) -> dict[str, np.ndarray]:
    return scenes.TWO_VIEWS.split(episode.frames)


def numpy_archives(path: Path) -> Path:
    path.mkdir()
    for index, e in enumerate(EPISODES):
        cameras = {f"frames.{name}": frames for name, frames in views(e).items()}
        np.savez_compressed(
            path / f"log{index}.npz", actions=e.actions, rewards=e.signals["reward"], proprio=e.signals["proprio"],
            terminated=e.terminated, text=e.text, fps=float(FPS), **cameras,
        )  # fmt: skip
    return path


def films(path: Path) -> Path:
    path.mkdir()
    for index, e in enumerate(EPISODES):
        for name, frames in views(e).items():
            (path / f"log{index}.{name}.mp4").write_bytes(encode_part(frames, DT_S, LOSSLESS))
        with (path / f"log{index}.csv").open("w", newline="") as file:
            table = csv.writer(file)
            table.writerow(["timestamp", "action.0", "action.1", "proprio.0", "proprio.1", "reward", "text"])
            rewards = np.append(e.signals["reward"], 0)
            for t, (a, p, r) in enumerate(zip(rows(e), e.signals["proprio"], rewards, strict=True)):
                table.writerow([t * 50, *map(repr, map(float, (*a, *p, r))), e.text])  # milliseconds
    return path


def robomimic(path: Path) -> Path:
    path.mkdir()
    with h5py.File(path / "demo.hdf5", "w") as file:
        data = file.create_group("data")
        data.attrs["env_args"] = json.dumps({"env_kwargs": {"control_freq": FPS}})
        for index, e in enumerate(EPISODES):
            group = data.create_group(f"demo_{index}")
            group["actions"], group["rewards"] = e.actions.astype(np.float64), e.signals["reward"]
            group["dones"] = (
                np.arange(len(e.actions)) == len(e.actions) - 1 if e.terminated else np.zeros(len(e.actions))
            )
            for place, part in (("obs", slice(None, -1)), ("next_obs", slice(1, None))):
                for name, frames in views(e).items():
                    group.create_dataset(f"{place}/{name}_image", data=frames[part], compression="gzip", shuffle=True)
                group[f"{place}/proprio"] = e.signals["proprio"][part]
    return path


def minari(path: Path) -> Path:
    import gymnasium as gym
    from minari.data_collector import EpisodeBuffer
    from minari.dataset.minari_storage import MinariStorage

    spaces = {
        f"image.{v.name}": gym.spaces.Box(0, 255, (v.height, v.width, 3), np.uint8) for v in scenes.TWO_VIEWS.views
    }
    spaces = {key.partition(".")[2]: space for key, space in spaces.items()}
    spaces["proprio"] = gym.spaces.Box(-np.inf, np.inf, (2,), np.float32)
    actions = gym.spaces.Box(-1, 1, (2,), np.float32)
    (path / "data").mkdir(parents=True)
    storage = MinariStorage.new(path / "data", gym.spaces.Dict(spaces), actions, env_spec=None, jpeg_encoding=False)
    for index, e in enumerate(EPISODES):
        ends = np.arange(len(e.actions)) == len(e.actions) - 1
        buffer = EpisodeBuffer(
            id=index, observations={**views(e), "proprio": e.signals["proprio"]}, actions=e.actions,
            rewards=e.signals["reward"], terminations=ends & e.terminated, truncations=ends & (not e.terminated),
            infos={},
        )  # fmt: skip
        storage.update_episodes([buffer])
    storage.update_metadata({"dataset_id": "push/square-v0", "minari_version": "0.5.4"})
    return path


def _meta(path: Path, version: str, templates: dict[str, str], **changes) -> None:
    features = {
        f"observation.images.{v.name}": {
            "dtype": "video", "shape": [v.height, v.width, 3], "names": ["height", "width", "channels"]
        }
        for v in scenes.TWO_VIEWS.views
    }  # fmt: skip
    sizes = {"action": 2, "observation.state": 2, "timestamp": 1, "next.reward": 1}
    features |= {key: {"dtype": "float32", "shape": [size], "names": None} for key, size in sizes.items()}
    features["next.done"] = {"dtype": "bool", "shape": [1], "names": None}
    for key in ("frame_index", "episode_index", "index", "task_index"):
        features[key] = {"dtype": "int64", "shape": [1], "names": None}
    info = {
        "codebase_version": version, "robot_type": "so100", "fps": FPS, "total_episodes": len(EPISODES),
        "chunks_size": 1000, "features": features, **templates, **changes,
    }  # fmt: skip
    (path / "meta").mkdir(parents=True)
    (path / "meta" / "info.json").write_text(json.dumps(info))


def _table(index: int, e: Episode, begin: int) -> pa.Table:
    count = len(e.frames)
    done = np.zeros(count, bool)
    done[-2:] = e.terminated, True
    return pa.table({
        "action": list(rows(e)), "observation.state": list(e.signals["proprio"]),
        "timestamp": (np.arange(count) * DT_S).astype(np.float32), "frame_index": np.arange(count),
        "episode_index": np.full(count, index), "index": np.arange(begin, begin + count),
        "task_index": np.full(count, index), "next.done": done,
        "next.reward": np.append(e.signals["reward"], np.float32(0)),
    })  # fmt: skip


def lerobot3(path: Path) -> Path:
    """By the published layout alone: all rows in one file, all films of a camera in one file."""
    _meta(path, "v3.0", {
        "data_path": "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "video_path": "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    })  # fmt: skip
    begins = np.cumsum([0, *(len(e.frames) for e in EPISODES)])
    (path / "data" / "chunk-000").mkdir(parents=True)
    tables = [_table(i, e, b) for i, (e, b) in enumerate(zip(EPISODES, begins[:-1], strict=True))]
    pq.write_table(pa.concat_tables(tables), path / "data/chunk-000/file-000.parquet")
    episodes = []
    for index, e in enumerate(EPISODES):
        row = {
            "episode_index": index,
            "tasks": [e.text],
            "length": len(e.frames),
            "data/chunk_index": 0,
            "data/file_index": 0,
        }
        for view in scenes.TWO_VIEWS.views:
            key = f"videos/observation.images.{view.name}"
            row |= {
                f"{key}/chunk_index": 0,
                f"{key}/file_index": 0,
                f"{key}/from_timestamp": float(begins[index] * DT_S),
            }
        episodes.append(row)
    (path / "meta/episodes/chunk-000").mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(episodes), path / "meta/episodes/chunk-000/file-000.parquet")
    texts = pa.table({"task_index": list(range(3)), "__index_level_0__": [e.text for e in EPISODES]})
    pq.write_table(texts, path / "meta/tasks.parquet")
    for view in scenes.TWO_VIEWS.views:
        folder = path / f"videos/observation.images.{view.name}/chunk-000"
        folder.mkdir(parents=True)
        parts = []
        for index, e in enumerate(EPISODES):
            parts.append(folder / f"part{index}.mp4")
            parts[-1].write_bytes(encode_part(views(e)[view.name], DT_S, LOSSLESS))
        (folder / "file-000.mp4").write_bytes(join_parts(parts))
        for part in parts:
            part.unlink()
    return path


def lerobot21(path: Path) -> Path:
    """By the published layout alone: a file for each recording."""
    _meta(path, "v2.1", {
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet",
        "video_path": "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4",
    })  # fmt: skip
    (path / "data" / "chunk-000").mkdir(parents=True)
    lines, tasks = [], []
    for index, e in enumerate(EPISODES):
        pq.write_table(_table(index, e, 0), path / f"data/chunk-000/episode_{index:06d}.parquet")
        lines.append(json.dumps({"episode_index": index, "tasks": [e.text], "length": len(e.frames)}))
        tasks.append(json.dumps({"task_index": index, "task": e.text}))
        for view in scenes.TWO_VIEWS.views:
            film = path / f"videos/chunk-000/observation.images.{view.name}/episode_{index:06d}.mp4"
            film.parent.mkdir(parents=True, exist_ok=True)
            film.write_bytes(encode_part(views(e)[view.name], DT_S, LOSSLESS))
    (path / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    (path / "meta/tasks.jsonl").write_text("\n".join(tasks) + "\n")
    return path


FORMATS: dict[str, Callable[[Path], Path]] = {
    "numpy": numpy_archives,
    "films": films,
    "robomimic": robomimic,
    "minari": minari,
    "lerobot v3.0": lerobot3,
    "lerobot v2.1": lerobot21,
}
WITH_TEXT: Sequence[str] = ("numpy", "films", "lerobot v3.0", "lerobot v2.1")
WITH_ENDS: Sequence[str] = ("numpy", "robomimic", "minari", "lerobot v3.0", "lerobot v2.1")
NEEDS_FPS: Sequence[str] = ("minari",)
