"""Shards as training reads them: actions and signals at once, frames when they are asked for, clip by clip."""

import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any, Literal

import numpy as np

from procosm.world_model.data import on_disk
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.logs import DAMAGE, check_episode
from procosm.world_model.data.shards import (
    ClipJson,
    ShardJson,
    check_shard,
    episode_of,
    name_of,
    read_clip,
    read_clips,
    read_index,
    read_json,
    read_members,
)
from procosm.world_model.data.task import Task
from procosm.world_model.data.video import decode
from procosm.world_model.errors import DatasetError
from procosm.world_model.progress import Progress

Damaged = Literal["refuse", "skip"]


class ClipCache:
    """Decoded clips, of which the latest are kept: as many as are mixed with each other, twice."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._clips: OrderedDict[str, np.ndarray] = OrderedDict()
        self._bytes = 0

    def frames(self, shard: ShardJson, clip: ClipJson, shape: tuple[int, ...]) -> np.ndarray:
        """All frames of a clip, uint8 of this shape.

        Raises:
            DatasetError: it was damaged or taken away since it was looked at.
        """
        key = clip["key"]
        if key in self._clips:
            self._clips.move_to_end(key)
            return self._clips[key]
        where = name_of(self.path, shard, clip)
        found, _ = decode(read_members(self.path, shard, clip, ["mp4"])["mp4"], where)
        if found.shape != shape:
            raise DatasetError(f"{where} shows frames {found.shape}, where {shape} belong to it")
        self._clips[key] = found
        self._bytes += found.nbytes
        while self._bytes > 2 * on_disk.MIXED and len(self._clips) > 1:
            self._bytes -= self._clips.popitem(last=False)[1].nbytes
        return found


class ClipFrames:
    """The frames of one clip: indexed as an array of (T+1, H, W, 3) uint8 is, and read then, see ``on_disk.Stored``."""

    def __init__(self, cache: ClipCache, shard: ShardJson, clip: ClipJson, task: Task) -> None:
        self.shape: tuple[int, ...] = (clip["steps"] + 1, *task.frame_shape)
        self._cache, self._shard, self._clip = cache, shard, clip

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        return self._cache.frames(self._shard, self._clip, self.shape)[index]

    def read(self, at: np.ndarray, into: np.ndarray) -> None:
        """The frames at (n,) indices, into (n, H, W, 3)."""
        into[...] = self[at]


def load_shards(path: Path, frames_on_disk: bool = False, damaged: Damaged = "refuse") -> list[Episode]:
    """Every clip of a folder of shards, each shard compared with its checksum.

    Args:
        frames_on_disk: read frames when they are asked for. damaged: what becomes of a shard that is not what was
            written: refused, or left out and named on stderr.

    Raises:
        DatasetError: the index cannot be read, a shard is damaged, or nothing is left.
    """
    task, index = read_index(path)
    cache = ClipCache(path) if frames_on_disk else None
    episodes, fault = list[Episode](), None
    with Progress(len(index["shards"]), "read shards", "shards") as bar:
        for shard in index["shards"]:
            try:
                episodes += _clips(path, shard, task, cache)
            except DatasetError as error:
                if damaged == "refuse":
                    raise DatasetError(f"{error}; or leave it out with --damaged skip") from error
                fault = fault or error
                bar.write(f"left out: {error}", file=sys.stderr)
            bar.update(1)
    if not episodes:
        raise fault or DatasetError(f"{path} holds no clip: curate other logs, or with other limits")
    return episodes


def _clips(path: Path, shard: ShardJson, task: Task, cache: ClipCache | None) -> list[Episode]:
    check_shard(path, shard)
    return [_episode(path, shard, clip, task, cache) for clip in read_clips(path, shard)]


def _episode(path: Path, shard: ShardJson, clip: ClipJson, task: Task, cache: ClipCache | None) -> Episode:
    where = name_of(path, shard, clip)
    try:
        if cache is None:
            episode, _ = read_clip(path, shard, clip, task)
        else:
            parts = read_members(path, shard, clip, ["npz", "json"])
            told = read_json(lambda: parts["json"], where)
            episode = episode_of(ClipFrames(cache, shard, clip, task), parts["npz"], told, task, where)
    except DAMAGE as error:
        raise DatasetError(f"{where} is damaged ({type(error).__name__}: {error})") from error
    check_episode(episode, task, where)
    return episode


def shard_bytes(path: Path) -> int:
    """How much memory the frames of a folder of shards take.

    Raises:
        DatasetError: the index cannot be read.
    """
    task, index = read_index(path)
    return (index["steps"] + index["clips"]) * int(np.prod(task.frame_shape))
