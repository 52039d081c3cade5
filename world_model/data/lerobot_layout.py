"""What reading and writing LeRobot datasets share: their names of columns and their files."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from procosm.world_model.errors import DatasetError

SIGNALS = {"observation.state": "proprio", "observation.environment_state": "state", "next.reward": "reward"}
"""Columns that have another name as a signal of an episode."""
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
MOST_BYTES = 4 * 2**30
"""Of one parquet file, unpacked."""


def parquet(path: Path, columns: Sequence[str] | None = None, filters: list | None = None) -> Any:
    """A table of a parquet file; None for all columns.

    Raises:
        DatasetError: it is missing, damaged or too large, or a column is missing.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise DatasetError(f"{path}: reading parquet needs pip install 'procosm[curation]'") from error

    try:
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
            size = sum(group.total_byte_size for group in groups)
            names = file.schema_arrow.names
        if size > MOST_BYTES:
            raise DatasetError(f"{path} unpacks to {size:,} bytes; at most {MOST_BYTES:,} are read")
        if missing := [name for name in columns or () if name not in names]:
            raise DatasetError(f"{path} has no column {', '.join(missing)}")
        return pq.read_table(
            path, columns=None if columns is None else list(columns), filters=filters, partitioning=None
        )
    except (OSError, pa.ArrowException, ValueError) as error:
        raise DatasetError(f"{path} is missing, cut off or damaged ({error})") from error


def columns_of(path: Path, episode: int, needed: list[str], optional: list[str], where: str) -> dict[str, list]:
    """The rows of one recording in a data file, by column."""
    try:
        table = parquet(path, [*needed, *optional, "episode_index"], [("episode_index", "=", episode)])
    except DatasetError as error:
        raise DatasetError(f"{where}: {error}") from error
    found: dict[str, list] = table.to_pydict()
    return found


def json_lines(path: Path, needs: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The objects of a file with one a line.

    Raises:
        DatasetError: it is missing, or a line is no object or lacks a key; names the line.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path} is missing or damaged ({error})") from error
    found = []
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DatasetError(f"{path}: line {number} is no JSON ({error})") from error
        if not isinstance(values, dict) or not all(isinstance(values.get(key), int) for key in needs):
            raise DatasetError(f"{path}: line {number} lacks {', '.join(needs)}")
        found.append(values)
    return found
