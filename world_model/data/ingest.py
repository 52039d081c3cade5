"""Logs of any format into a dataset of ours, as they are; and episodes of ours out to the formats of others."""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from annotated_types import Interval

from procosm.world_model.curation.engine import Engine, EngineConfig
from procosm.world_model.data.episodes import Episode, write_dataset
from procosm.world_model.data.lerobot_writer import QUALITY, Coded, code, write_lerobot
from procosm.world_model.data.logs import Log, Logs, LogsConfig, held_out, open_logs, read_log
from procosm.world_model.data.rows import check_clock
from procosm.world_model.data.shards import ShardLogs
from procosm.world_model.data.stored_logs import DatasetLogs
from procosm.world_model.data.task import Task
from procosm.world_model.errors import DatasetError
from procosm.world_model.folders import check_apart, check_out
from procosm.world_model.progress import Progress
from procosm.world_model.provenance import provenance

Made = TypeVar("Made")


@dataclass(frozen=True, kw_only=True)
class IngestConfig(LogsConfig, EngineConfig):
    """Which logs to convert, and where to put them."""

    out: Path
    """Run folder; the dataset goes to OUT/data."""
    holdout: Annotated[float, Interval(ge=0, le=0.5)] = 0.1
    """Share of the recordings that is kept from training, to judge by; shards and datasets of ours say it already."""


@dataclass(frozen=True, kw_only=True)
class ExportConfig(LogsConfig, EngineConfig):
    """Which episodes to write, and how."""

    out: Path
    """Folder for what is written; it must be empty or not exist."""
    to: Literal["lerobot", "minari"] = "lerobot"
    """LeRobot dataset v3.0, or Minari dataset."""
    quality: Annotated[int, Interval(ge=1, le=51)] = QUALITY
    """Of LeRobot's video: H.264's constant rate factor, 1 (best) to 51."""


def ingest(config: IngestConfig) -> Path:
    """Convert logs to ``OUT/data``, a dataset of ours; what cannot be read is named and left out. Returns the dataset.

    Raises:
        DatasetError: no recording can be read, or there is a dataset already.
    """
    check_apart(config.out, config.data)
    check_out(config.out)
    logs = open_logs(config)
    told = isinstance(logs, (ShardLogs, DatasetLogs))  # which of their episodes are held out
    apart = set() if told else held_out(logs.names, config.holdout)
    refused: list[str] = []

    def episodes() -> Iterator[tuple[Episode, np.ndarray | None]]:
        for log in _readable(logs, config.engine(), refused, _as_it_is):
            yield replace(log.episode, kind="holdout" if log.name in apart else log.episode.kind), None
        if len(refused) == len(logs.names):
            raise DatasetError(f"no recording of {config.data} can be read; the first: {refused[0]}")

    origin = provenance({"ingest": config})
    origin["source"] = {"format": type(logs).__name__, "recordings": len(logs.names), "refused": refused}
    write_dataset(config.out / "data", logs.task, episodes(), origin, env_spec=None)
    print(f"{len(logs.names) - len(refused)} of {len(logs.names)} recordings are in the dataset")
    return config.out / "data"


def export(config: ExportConfig) -> Path:
    """Write episodes in a format of others; what cannot be read is named and left out. Returns the folder.

    Raises:
        DatasetError: no episode can be read, or the folder is not empty.
    """
    check_apart(config.out, config.data)
    check_out(config.out, lambda name: False)
    logs, refused = open_logs(config), list[str]()
    if config.to == "lerobot":
        coding = partial(_coded, logs.task, config.quality)
        return write_lerobot(config.out, logs.task, _readable(logs, config.engine(), refused, coding))
    pairs = ((log.episode, None) for log in _readable(logs, config.engine(), refused, _as_it_is))
    write_dataset(config.out, logs.task, pairs, provenance({"export": config}), env_spec=None)
    return config.out


def _readable(logs: Logs, engine: Engine, refused: list[str], make: Callable[[Log], Made]) -> Iterator[Made]:
    """What is made of the recordings that can be read, in their order; the others are named on stderr and added to
    ``refused``. In this process one recording is held at a time."""
    with Progress(len(logs.names), "recordings", "recordings") as bar:
        for made in engine.stream(logs.names, partial(_made, logs, make), in_order=True):
            bar.update(1)
            if isinstance(made, str):
                refused.append(made)
                bar.write(f"left out: {made}", file=sys.stderr)
                continue
            yield made


def _made(logs: Logs, make: Callable[[Log], Made], name: str) -> list[Made | str]:
    """What is made of one recording, or why it cannot be read."""
    try:
        log = read_log(logs, name)
        check_clock(log.times_s, logs.task.dt_s, name)
        return [make(log)]
    except DatasetError as error:
        return [str(error)]


def _as_it_is(log: Log) -> Log:
    return log


def _coded(task: Task, quality: int, log: Log) -> Coded:
    return code(log.episode, task, quality)
