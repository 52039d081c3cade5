"""What is done to one log and to one clip of it: plain functions, which the engine may run anywhere."""

import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np

from procosm.world_model.curation.agreement import ActionModel
from procosm.world_model.curation.annotate import Captioner
from procosm.world_model.curation.dedup import embed, embed_actions
from procosm.world_model.curation.filter import FilterConfig, measure_actions, measure_pictures, reasons
from procosm.world_model.curation.records import Clip, LogRecord, packed
from procosm.world_model.curation.split import Span, SplitConfig, find_cuts, spans_between
from procosm.world_model.data.episodes import Episode
from procosm.world_model.data.logs import Log, Logs, read_log
from procosm.world_model.data.shards import clip_key
from procosm.world_model.errors import DatasetError

GAP = 1.5
"""Steps between two timestamps from which on frames are missing between them, and the log is cut there."""


@dataclass(frozen=True)
class Piece:
    """A clip on its way through the stages; a log without any has one piece without an episode.

    Attributes:
        log: what is known of its log. count: pieces of that log in all.
        span: of the clip in it. episode, times_s: its content, None once nothing needs it any more.
        clip: its record, from the last stage on.
    """

    log: LogRecord
    count: int
    span: Span | None = None
    episode: Episode | None = None
    times_s: np.ndarray | None = None
    clip: Clip | None = None
    scores: dict[str, float] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Stages:
    """The stages of one run, with all that they need to know."""

    logs: Logs
    split: SplitConfig
    limits: FilterConfig
    actions: ActionModel
    captioner: Captioner

    def read(self, name: str) -> Iterator[Piece]:
        """A log's clips, or why it cannot be read."""
        begun = time.perf_counter()
        try:
            log = read_log(self.logs, name)
        except DatasetError as error:
            yield Piece(LogRecord(name, refused=str(error)), 1)
            return
        opened = time.perf_counter()
        spans, short = split_log(log, self.logs.task.dt_s, self.split)
        record = LogRecord(
            name,
            short=[(span.first, span.last) for span in short],
            frames=len(log.episode.frames),
            bytes=log.episode.frames.nbytes,
        )
        seconds = {"read": opened - begun, "split": time.perf_counter() - opened}
        if not spans:
            yield Piece(record, 1, seconds=seconds)
        for index, span in enumerate(spans):
            clip, times_s = cut(log, span)
            yield Piece(record, len(spans), span, clip, times_s, seconds=seconds if index == 0 else {})

    def measure(self, piece: Piece) -> Piece:
        """The piece with what the filters measure."""
        if piece.episode is None or piece.times_s is None:
            return piece
        begun, task = time.perf_counter(), self.logs.task
        scores, tags = measure_pictures(piece.episode, task)
        answer = self.actions.judge(piece.log.source, piece.episode.frames, piece.episode.actions)
        scores |= measure_actions(answer, piece.times_s, task.dt_s)
        return replace(
            piece, scores=scores, tags=tags, seconds=piece.seconds | {"measure": time.perf_counter() - begun}
        )

    def describe(self, piece: Piece) -> Piece:
        """The piece with its record, and without its frames."""
        if piece.episode is None or piece.span is None:
            return piece
        begun, episode, task = time.perf_counter(), piece.episode, self.logs.task
        clip = Clip(
            key=clip_key(piece.log.source, piece.span.first, piece.span.last),
            source=piece.log.source,
            first=piece.span.first,
            last=piece.span.last,
            kind=episode.kind,
            sha256=digest(episode),
            scores=piece.scores,
            reasons=reasons(piece.scores, self.limits),
            tags=piece.tags,
            caption=self.captioner.caption(episode.frames, task, episode.text, piece.tags),
            embedding=packed(embed(episode.frames)),
            acted=packed(embed_actions(episode.actions)),
        )
        seconds = piece.seconds | {"describe": time.perf_counter() - begun}
        return replace(piece, episode=None, times_s=None, clip=clip, seconds=seconds)


def split_log(log: Log, dt_s: float, config: SplitConfig) -> tuple[list[Span], list[Span]]:
    """The clips of a log, and its pieces that are too short: cut where a shot begins, and where frames are missing."""
    gaps = np.flatnonzero(np.diff(log.times_s) > GAP * dt_s) + 1
    cuts = sorted({*find_cuts(log.episode.frames, config), *gaps.tolist()})
    return spans_between(len(log.episode.frames), cuts, config)


def cut(log: Log, span: Span) -> tuple[Episode, np.ndarray]:
    """The part of a log that a span names, and its times."""
    whole, steps = log.episode, slice(span.first, span.last)
    frames = slice(span.first, span.last + 1)
    count = len(whole.frames)
    episode = replace(
        whole,
        frames=whole.frames[frames],
        actions=whole.actions[steps],
        terminated=whole.terminated and span.last == count - 1,
        wide=whole.wide or span.first > 0,
        signals={
            name: values[frames] if len(values) == count else values[steps] for name, values in whole.signals.items()
        },
    )
    return episode, log.times_s[frames]


def digest(episode: Episode) -> str:
    """sha256 of frames, actions and signals."""
    found = hashlib.sha256(episode.frames.tobytes())
    for values in (episode.actions, *(episode.signals[name] for name in sorted(episode.signals))):
        found.update(values.tobytes())
    return found.hexdigest()
