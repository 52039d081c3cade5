"""Shards of clips: webdataset tars with an index, and one clip at a time read from them.

A folder of shards::

    index.json            the task, and each shard with its size, sha256 and what kind of clips it holds
    NAME.tar              per clip KEY.mp4 (frames), KEY.npz (actions and signals), KEY.json (text, origin, scores)
    NAME.json             of each clip of that tar: where its members begin, and how long they are

A tar is uncompressed, so that any clip can be read alone; nothing of it is ever written to disk by its name.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field
from typing_extensions import TypedDict

from procosm.world_model.data import rows
from procosm.world_model.data.archives import Archive
from procosm.world_model.data.episodes import KINDS, Episode
from procosm.world_model.data.logs import Log, LogsConfig, view_name
from procosm.world_model.data.task import Task, read_task
from procosm.world_model.data.video import decode
from procosm.world_model.errors import DatasetError
from procosm.world_model.schema import checked

FORMAT = 1
MEMBERS = ("mp4", "npz", "json")
MOST_BYTES = 4 * 2**30
"""Of one member of a tar."""
AGAIN = "run procosm curate again, or restore it from a copy"
Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")]
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,200}\.tar$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Whole = Annotated[int, Field(ge=0, le=2**53)]


class ShardJson(TypedDict):
    """One shard in the index."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]
    name: FileName
    bytes: Whole
    sha256: Digest
    clips: Whole
    steps: Whole
    resolution: str
    aspect: str
    length: str


class IndexJson(TypedDict):
    """What ``index.json`` holds."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]
    format: Annotated[int, Field(ge=1, le=FORMAT)]
    task: dict[str, Any]
    clips: Whole
    steps: Whole
    shards: list[ShardJson]


class ClipJson(TypedDict):
    """Where a clip lies in its tar: (begin, bytes) of each member, and its steps."""

    __pydantic_config__ = ConfigDict(extra="forbid", strict=True)  # type: ignore[misc]
    key: Key
    steps: Whole
    kind: str
    mp4: tuple[Whole, Whole]
    npz: tuple[Whole, Whole]
    json: tuple[Whole, Whole]


def read_index(path: Path) -> tuple[Task, IndexJson]:
    """The task of a folder of shards, and its index.

    Raises:
        DatasetError: the index is missing or damaged.
    """
    file = path / "index.json"
    index: IndexJson = checked(IndexJson, read_json(file.read_bytes, file), str(file), AGAIN, DatasetError)
    return read_task(index["task"], str(file), AGAIN, DatasetError), index


def read_clips(path: Path, shard: ShardJson) -> list[ClipJson]:
    """The clips of a shard.

    Raises:
        DatasetError: the file beside the tar is missing, damaged, or counts other clips than the index.
    """
    file = (path / shard["name"]).with_suffix(".json")
    found: list[ClipJson] = checked(list[ClipJson], read_json(file.read_bytes, file), str(file), AGAIN, DatasetError)
    if len(found) != shard["clips"] or len({clip["key"] for clip in found}) != len(found):
        raise DatasetError(f"{file} holds {len(found)} clips, and the index says {shard['clips']}; {AGAIN}")
    return found


def check_shard(path: Path, shard: ShardJson) -> None:
    """Compare a shard with its checksum.

    Raises:
        DatasetError: it is missing, cut off or altered.
    """
    file, digest = path / shard["name"], hashlib.sha256()
    try:
        with file.open("rb") as stream:
            while block := stream.read(2**20):
                digest.update(block)
    except OSError as error:
        raise DatasetError(f"{file} is missing or cannot be read ({error.strerror}); {AGAIN}") from error
    if digest.hexdigest() != shard["sha256"]:
        raise DatasetError(f"{file} is not what was written: its sha256 differs from the index; {AGAIN}")


def read_clip(path: Path, shard: ShardJson, clip: ClipJson, task: Task) -> tuple[Episode, dict[str, Any]]:
    """One clip, and what its JSON says of it.

    Raises:
        DatasetError: it is damaged, or not what the task says.
    """
    where, parts = name_of(path, shard, clip), read_members(path, shard, clip, MEMBERS)
    told = read_json(lambda: parts["json"], where)
    frames, _ = decode(parts["mp4"], where)
    return episode_of(frames, parts["npz"], told, task, where), told


def name_of(path: Path, shard: ShardJson, clip: ClipJson) -> str:
    """What errors call a clip."""
    return f"{clip['key']} of {path / shard['name']}"


def read_members(path: Path, shard: ShardJson, clip: ClipJson, members: Sequence[str]) -> dict[str, bytes]:
    """The content of some members of a clip, by their endings.

    Raises:
        DatasetError: they do not lie where the index says.
    """
    where, parts = name_of(path, shard, clip), dict[str, bytes]()
    try:
        with (path / shard["name"]).open("rb") as file:
            for member in members:
                begin, size = clip[member]  # type: ignore[literal-required]
                if size > MOST_BYTES or begin + size > shard["bytes"]:
                    raise DatasetError(f"{where}: its {member} lies outside the shard; {AGAIN}")
                file.seek(begin - 512)
                header, parts[member] = file.read(512), file.read(size)
                if header[:100].rstrip(b"\0") != f"{clip['key']}.{member}".encode() or len(parts[member]) != size:
                    raise DatasetError(f"{where}: its {member} does not lie where the index says; {AGAIN}")
    except OSError as error:
        raise DatasetError(f"{where} cannot be read ({error.strerror}); {AGAIN}") from error
    return parts


def episode_of(frames: Any, arrays: bytes, told: Any, task: Task, where: str) -> Episode:
    """A clip's members as an episode of its task.

    Args:
        frames: (T + 1, H, W, 3) uint8, or what reads them. arrays: content of its npz. told: of its json.
    """
    if not isinstance(told, dict) or told.get("kind") not in KINDS or not isinstance(told.get("text"), str):
        raise DatasetError(f"{where}: its json does not say kind and text; {AGAIN}")
    steps = len(frames) - 1
    with Archive(arrays, where) as archive:
        signals = {}
        for name, signal in task.signals.items():
            if name != "termination":
                values = archive.read(name)
                if values.shape != (steps + (signal.per == "frame"), *signal.shape) or values.dtype != np.float32:
                    raise DatasetError(f"{where}: {name} is {values.dtype} {values.shape} for {steps} steps; {AGAIN}")
                if not np.isfinite(values).all():
                    raise DatasetError(f"{where}: {name} is not finite; {AGAIN}")
                signals[name] = values
        actions = rows.numbers(archive.read("actions"), len(task.action_low), steps, "actions", where)
    return Episode(
        frames=frames,
        actions=actions,
        terminated=bool(told.get("terminated")),
        kind=told["kind"],
        wide=bool(told.get("wide")),
        signals=signals,
        text=told["text"],
    )


class ShardLogs:
    """The clips of shards, one at a time; names are the clips' keys."""

    def __init__(self, config: LogsConfig) -> None:
        self._path = config.data
        self.task, index = read_index(config.data)
        names = tuple(view_name(view.name) for view in self.task.views)
        if config.views not in ((), names) or config.height not in (None, self.task.height):
            raise DatasetError(
                f"{config.data} are shards of {names} with {self.task.height} rows: curate them again to change that"
            )
        self._clips = dict(self._all(index))
        self.names = list(self._clips)

    def _all(self, index: IndexJson) -> Iterator[tuple[str, tuple[ShardJson, ClipJson]]]:
        for shard in index["shards"]:
            for clip in read_clips(self._path, shard):
                yield clip["key"], (shard, clip)

    def read(self, name: str) -> Log:
        """One clip."""
        episode, _ = read_clip(self._path, *self._clips[name], self.task)
        return Log(name, episode, np.arange(len(episode.frames)) * self.task.dt_s)


def read_json(content: Callable[[], bytes], where: object) -> Any:
    try:
        return json.loads(content())
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{where} is missing or damaged ({error}); {AGAIN}") from error


def clip_key(name: str, first: int, last: int) -> str:
    """What a clip is called in its shard, told apart from others by a digest where its name has other letters."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:120]
    mark = "" if plain == name else f"-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return f"{plain}{mark}-{first:06d}-{last:06d}"
