"""What world models are trained on and judged by: a dataset, or shards of curation, read alike."""

from pathlib import Path

from procosm.world_model.data import clip_frames, episodes
from procosm.world_model.data.clip_frames import Damaged
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.shards import read_index
from procosm.world_model.data.task import Task
from procosm.world_model.errors import DatasetError
from procosm.world_model.folders import find


def are_shards(path: Path) -> bool:
    """Whether a folder holds shards of ``procosm curate``."""
    return (path / "index.json").exists() and not find(path, "task.json").exists()


def load_task(path: Path) -> Task:
    """The task of what lies in a folder.

    Raises:
        DatasetError: there is neither a dataset nor shards, or they are damaged.
    """
    return read_index(path)[0] if are_shards(path) else episodes.load_task(path)


def load_episodes(path: Path, frames_on_disk: bool = False, damaged: Damaged = "refuse") -> list[Episode]:
    """Every episode that lies in a folder; the clips of shards are episodes.

    Args:
        frames_on_disk: read frames when they are asked for. damaged: what becomes of a damaged shard.

    Raises:
        DatasetError: there is neither a dataset nor shards, or they are damaged.
    """
    if are_shards(path):
        return clip_frames.load_shards(path, frames_on_disk, damaged)
    if damaged != "refuse":
        raise DatasetError(f"{path} is a dataset, of which no part can be left out: --damaged skip is for shards")
    return episodes.load_episodes(path, frames_on_disk)


def frame_bytes(path: Path) -> int:
    """How much memory the frames in a folder take.

    Raises:
        DatasetError: there is neither a dataset nor shards, or they are damaged.
    """
    return clip_frames.shard_bytes(path) if are_shards(path) else episodes.frame_bytes(path)


def newest_frames(path: Path, count: int) -> dict[str, int]:
    """How many frames of each kind the last ``count`` episodes in a folder have.

    Raises:
        DatasetError: there is no dataset, it has fewer, or these are shards, which do not say what came last.
    """
    if count and are_shards(path):
        raise DatasetError(
            f"--recent {count}: {path} are shards, which do not say which episodes came last: leave --recent out, or "
            "train on a dataset (procosm collect, ingest)"
        )
    return episodes.newest_frames(path, count)


def contents(path: Path) -> tuple[str, ...]:
    """Endings of the files that make up what lies in a folder; the index of shards has their checksums."""
    return ("index.json",) if are_shards(path) else (".hdf5", ".arrow", ".json")
