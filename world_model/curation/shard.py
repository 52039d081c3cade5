"""Clips into webdataset tars: which clip goes where, and the writing of one tar, whole or not at all."""

import hashlib
import io
import json
import math
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from procosm.world_model.curation.records import Clip
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.shards import FORMAT, MEMBERS, ClipJson, IndexJson, ShardJson
from procosm.world_model.data.task import Task
from procosm.world_model.data.video_stream import encode_part
from procosm.world_model.files import read_json, write_bytes, write_json

LENGTHS = (32, 64, 128, 256, 512)
"""Steps up to which clips count as equally long; longer ones are one class."""
EPOCH = 0
"""Modification time of everything in a tar: the same clips make the same bytes."""


@dataclass(frozen=True)
class Plan:
    """One shard that is to be written: its name, what its clips have in common, and the clips in their order."""

    name: str
    resolution: str
    aspect: str
    length: str
    clips: tuple[Clip, ...]


def plan_shards(clips: Sequence[Clip], task: Task, most: int) -> list[Plan]:
    """Which clip goes into which shard; the same for the same clips, in whatever order they were found.

    Args:
        clips: those that are kept. most: clips of a shard at the most.
    """
    common = math.gcd(task.height, task.width)
    resolution, aspect = f"{task.height}x{task.width}", f"{task.width // common}-{task.height // common}"
    groups: dict[str, list[Clip]] = {}
    for clip in sorted(clips, key=lambda clip: (clip.source, clip.first)):
        groups.setdefault(_length(clip.last - clip.first), []).append(clip)
    plans = []
    for length, members in sorted(groups.items()):
        for number, begin in enumerate(range(0, len(members), most)):
            chosen = tuple(members[begin : begin + most])
            mark = hashlib.sha256("\n".join(clip.key for clip in chosen).encode()).hexdigest()[:8]
            name = f"{resolution}_{aspect}_{length}_{number:05d}_{mark}.tar"
            plans.append(Plan(name, resolution, aspect, length, chosen))
    return plans


def _length(steps: int) -> str:
    return next((f"upto{most}" for most in LENGTHS if steps <= most), f"over{LENGTHS[-1]}")


def write_shard(folder: Path, plan: Plan, task: Task, read: Callable[[Clip], Episode], quality: int) -> ShardJson:
    """Write one shard and the list of its clips; a shard that is there already is only described.

    Args:
        read: gives a clip's frames, actions and signals. quality: of the video, 0 for every pixel as it was.
    """
    path, listed = folder / plan.name, (folder / plan.name).with_suffix(".json")
    if not (path.exists() and listed.exists()):
        memory, places = io.BytesIO(), list[ClipJson]()
        with tarfile.open(fileobj=memory, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for clip in plan.clips:
                places.append(_add(tar, clip, read(clip), task, quality))
        write_bytes(path, memory.getvalue())
        write_json(listed, places)
    content, told = path.read_bytes(), read_json(listed)
    return ShardJson(  # type: ignore[typeddict-item]  # pydantic's key is no key of the dict
        name=plan.name,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        clips=len(told),
        steps=sum(clip["steps"] for clip in told),
        resolution=plan.resolution,
        aspect=plan.aspect,
        length=plan.length,
    )


def _add(tar: tarfile.TarFile, clip: Clip, episode: Episode, task: Task, quality: int) -> ClipJson:
    """A clip's members, and where they lie."""
    arrays = io.BytesIO()
    named: dict[str, Any] = {"actions": episode.actions, **episode.signals}
    np.savez(arrays, **named)
    told = {
        "text": episode.text,
        "caption": clip.caption,
        "tags": clip.tags,
        "kind": episode.kind,
        "wide": episode.wide,
        "terminated": episode.terminated,
        "origin": {"source": clip.source, "first": clip.first, "last": clip.last, "sha256": clip.sha256},
        "scores": clip.scores,
    }
    parts = {
        "mp4": encode_part(episode.frames, task.dt_s, quality),
        "npz": arrays.getvalue(),
        "json": json.dumps(told, allow_nan=False).encode(),
    }
    places: dict[str, Any] = {"key": clip.key, "steps": len(episode.actions), "kind": episode.kind}
    for member in MEMBERS:
        info = tarfile.TarInfo(f"{clip.key}.{member}")
        info.size, info.mtime = len(parts[member]), EPOCH
        places[member] = (tar.offset + 512, info.size)
        tar.addfile(info, io.BytesIO(parts[member]))
    return ClipJson(**places)  # type: ignore[typeddict-item]


def write_index(folder: Path, task: Task, shards: Sequence[ShardJson]) -> Path:
    """Write ``index.json``, which makes the shards count, and return it."""
    index = IndexJson(  # type: ignore[typeddict-item]  # as above
        format=FORMAT,
        task=asdict(task),
        clips=sum(shard["clips"] for shard in shards),
        steps=sum(shard["steps"] for shard in shards),
        shards=list(shards),
    )
    write_json(folder / "index.json", index)
    return folder / "index.json"
