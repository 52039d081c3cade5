"""Frames and latents that stay on disk: read as they are asked for, so that memory does not grow with the data."""

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import h5py
import numpy as np
import torch
from torch import Tensor

from procosm.world_model.errors import DatasetError

PIECE = 1 << 11
"""Frames that are read for encoding together."""
SAMPLE = 1 << 14
"""Rows that statistics are taken of, at most, where they lie on disk; they are read ``PIECE`` at a time."""
KEPT = 32 << 20
"""Bytes of decoded frames that are kept, at most, and those of one block beside them."""
MIXED = 128 << 20
"""Bytes of decoded video, at most, whose windows are mixed with each other; twice as many are kept."""
PIXELS = "observations/pixels"
T = TypeVar("T")


class FrameFile:
    """The frames of a dataset's episodes, in blocks as they are compressed; the latest of them are kept."""

    def __init__(self, path: Path, kept: int | None = None) -> None:
        self.path, self.kept = path, KEPT if kept is None else kept
        self._file: h5py.File | None = None
        self._owner = 0
        self._blocks: OrderedDict[tuple[int, int], np.ndarray] = OrderedDict()
        self._bytes = 0

    def block(self, episode: int, number: int, rows: int) -> np.ndarray:
        """(rows, H, W, 3) uint8, fewer at an episode's end: its frames from ``number * rows`` on.

        Raises:
            DatasetError: the file is damaged there, or was taken away.
        """
        key = (episode, number)
        if key in self._blocks:
            self._blocks.move_to_end(key)
            return self._blocks[key]
        try:
            found = self._opened()[f"episode_{episode}/{PIXELS}"][number * rows : (number + 1) * rows]
        except (OSError, KeyError, RuntimeError, ValueError) as error:
            raise DatasetError(
                f"episode {episode} of {self.path} cannot be read any more ({error}): restore the dataset, and run the "
                "same command again"
            ) from error
        self._blocks[key] = found
        self._bytes += found.nbytes
        while self._bytes > self.kept and len(self._blocks) > 1:
            self._bytes -= self._blocks.popitem(last=False)[1].nbytes
        return found

    def _opened(self) -> h5py.File:
        if self._file is None or self._owner != os.getpid():  # a fork must not share the place in the file
            self._file, self._owner = h5py.File(self.path, "r"), os.getpid()
        return self._file


class EpisodeFrames:
    """The frames of one episode: indexed as an array of (T+1, H, W, 3) uint8 is, and read then.

    Attributes:
        shape: of all. rows: how many frames are compressed together.
    """

    def __init__(self, file: FrameFile, episode: int, shape: tuple[int, ...], rows: int) -> None:
        self.file, self.episode, self.shape, self.rows = file, episode, shape, rows

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, index: Any) -> np.ndarray:
        at = np.arange(len(self))[index]
        found = np.empty((at.size, *self.shape[1:]), np.uint8)
        self.read(at.reshape(-1), found)
        return found.reshape(*at.shape, *self.shape[1:])

    def read(self, at: np.ndarray, into: np.ndarray) -> None:
        """The frames at (n,) indices, into (n, H, W, 3)."""
        numbers = at // self.rows
        for number in np.unique(numbers):
            here = numbers == number
            into[here] = self.file.block(self.episode, int(number), self.rows)[at[here] - number * self.rows]


class Stored(Protocol):
    """Frames of one episode that lie on disk.

    Attributes:
        shape: (T+1, H, W, 3).
    """

    shape: tuple[int, ...]

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> np.ndarray: ...

    def read(self, at: np.ndarray, into: np.ndarray) -> None:
        """The frames at (n,) indices, into (n, H, W, 3)."""


class Rows:
    """What stands in a tensor's place along its first axis: indexed alike, by tensors and slices, and read then.

    Attributes:
        shape: of all rows.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def device(self) -> torch.device:
        """Where nothing is, until it is read."""
        return torch.device("cpu")

    def __getitem__(self, index: Tensor | slice | int) -> Tensor:
        if not isinstance(index, Tensor):
            index = torch.arange(len(self))[index]
        found = torch.empty(index.numel(), *self.shape[1:], dtype=self.dtype)
        self.read(index.reshape(-1).cpu().numpy(), found)
        return found.view(*index.shape, *self.shape[1:]).to(index.device)

    def read(self, at: np.ndarray, into: Tensor) -> None:
        """The rows at (n,) indices, into a tensor (n, …)."""
        raise NotImplementedError


class JoinedFrames(Rows):
    """The frames of many episodes, end to end: (n, H, W, 3) uint8."""

    dtype = torch.uint8

    def __init__(self, episodes: Sequence[Stored]) -> None:
        self.episodes = list(episodes)
        self.ends = np.cumsum([len(episode) for episode in self.episodes])
        self.shape = (int(self.ends[-1]), *self.episodes[0].shape[1:])

    def read(self, at: np.ndarray, into: Tensor) -> None:
        """See Rows."""
        values, whose = into.numpy(), np.searchsorted(self.ends, at, side="right")
        for number in np.unique(whose):
            here, episode = whose == number, self.episodes[number]
            part = np.empty((int(here.sum()), *self.shape[1:]), np.uint8)
            episode.read(at[here] - (self.ends[number] - len(episode)), part)
            values[here] = part


class LatentFile(Rows):
    """(n, c, h, w) float32 latents in a file that holds nothing else."""

    dtype = torch.float32

    def __init__(self, path: Path, shape: tuple[int, ...]) -> None:
        self.path, self.shape = path, shape
        self._size = 4 * int(np.prod(shape[1:]))
        self._descriptor = os.open(path, os.O_RDONLY)
        if os.fstat(self._descriptor).st_size != len(self) * self._size:
            raise DatasetError(f"{path} does not hold {shape} latents: delete it, and run the same command again")

    def read(self, at: np.ndarray, into: Tensor) -> None:
        """See Rows. What stands together in the file is read together."""
        values = into.view(len(at), -1).numpy()
        starts = np.flatnonzero(np.diff(at, prepend=-2) != 1)
        for first, last in zip(starts, [*starts[1:], len(at)], strict=True):
            part = values[first:last]
            if os.preadv(self._descriptor, [part.data], int(at[first]) * self._size) < part.nbytes:
                raise DatasetError(f"{self.path} was cut short: delete it, and run the same command again")

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)


def some(rows: Tensor | Rows, at: Tensor) -> Tensor:
    """Which of (n,) indices statistics are taken of: in memory all, on disk so many, evenly spread."""
    if isinstance(rows, Tensor) or len(at) <= SAMPLE:
        return at
    return at[torch.linspace(0, len(at) - 1, SAMPLE, dtype=torch.float64).long().to(at.device)]


def in_parts(rows: Tensor | Rows, at: Tensor, size: int | None = None) -> tuple[Tensor, ...]:
    """(n,) indices in the parts that are read together: in memory all, on disk ``size`` or else ``PIECE`` of them."""
    return (at,) if isinstance(rows, Tensor) else at.split(size or PIECE)


@dataclass(frozen=True)
class Parts(Generic[T]):
    """What is taken of rows part by part, as often as it is gone through; never is all of it in memory.

    Attributes:
        at: indices, see ``in_parts``. take: what is to be had at such a part.
    """

    at: Sequence[Tensor]
    take: Callable[[Tensor], T]

    def __iter__(self) -> Iterator[T]:
        return map(self.take, self.at)


def write_latents(path: Path, parts: Iterator[Tensor]) -> None:
    """Write parts of latents one after another into a file, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            for part in parts:
                file.write(part.cpu().contiguous().numpy().data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise DatasetError(f"cannot write {path} ({error.strerror}): free some space, and run it again") from error


def latents_on_disk(path: Path, frames: Rows, shape: tuple[int, ...], encode: Callable[[Tensor], Tensor]) -> LatentFile:
    """The latents of frames, (c, h, w) each; encoded, some thousand at a time, unless the file is there already."""
    if not path.exists():
        pieces = range(0, len(frames), PIECE)
        write_latents(path, (encode(frames[first : first + PIECE]) for first in pieces))
    return LatentFile(path, (len(frames), *shape))
