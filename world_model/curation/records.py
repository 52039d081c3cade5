"""What curation writes down: a line for each log, with every clip of it, why it was dropped, and where it came from."""

import base64
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import Field

from procosm.sparse import strict
from procosm.world_model.curation.split import Span
from procosm.world_model.errors import DatasetError

Key = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,200}$")]


@dataclass(frozen=True)
class Clip:
    """One clip of a log, without its frames.

    Attributes:
        key: of the clip, unlike any other's. source: name of its log. first, last: of its frames there.
        kind: ``train`` or ``holdout``. sha256: of its frames, actions and signals.
        scores: what was measured, by name. reasons: why it is dropped, empty for a clip that is kept.
        tags, caption: annotation. embedding, acted: see ``dedup.embed`` and ``dedup.embed_actions``, float16 in base64.
    """

    key: Key
    source: str
    first: Annotated[int, Field(ge=0)]
    last: Annotated[int, Field(ge=0)]
    kind: str
    sha256: str
    scores: dict[str, float]
    reasons: list[str]
    tags: list[str]
    caption: str
    embedding: str
    acted: str

    @property
    def span(self) -> Span:
        """Its frames in the log."""
        return Span(self.first, self.last)


def packed(embedding: np.ndarray) -> str:
    """An embedding as a record holds it."""
    return base64.b64encode(embedding.astype(np.float16).tobytes()).decode()


def unpacked(embedding: str) -> np.ndarray:
    """An embedding that a record holds, float32."""
    return np.frombuffer(base64.b64decode(embedding), np.float16).astype(np.float32)


@dataclass(frozen=True)
class LogRecord:
    """All that is known of one log.

    Attributes:
        source: its name. refused: why it could not be read, "" where it could. clips: those it was cut into.
        short: first and last frame of each piece that was too short. frames: in all.
        seconds: of each stage's work on it. bytes: of its frames.
    """

    source: str
    refused: str = ""
    clips: list[Clip] = field(default_factory=list)
    short: list[tuple[int, int]] = field(default_factory=list)
    frames: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    bytes: int = 0


class Manifest:
    """The records of a run in one file, a line for each log; what was written before a kill counts, half a line not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.done: dict[str, LogRecord] = {}
        if path.exists():
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if len(whole) < len(content):
                with path.open("rb+") as file:  # what a kill cut off
                    file.truncate(len(whole))
            self.done = {record.source: record for record in _records(whole, path)}

    def add(self, record: LogRecord) -> None:
        """Write a record; once this returns, it stays."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(json.dumps(asdict(record), allow_nan=False).encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
        self.done[record.source] = record


def _records(content: bytes, path: Path) -> Iterator[LogRecord]:
    for number, line in enumerate(content.splitlines(), 1):
        try:
            values: Any = json.loads(line)
            yield strict.read(LogRecord, values)
        except (ValueError, RecursionError, strict.Wrong) as error:
            raise DatasetError(f"line {number} of {path} is damaged ({error}): delete that line") from error
