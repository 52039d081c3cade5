"""Arrays of a part's ``.npz``, which anybody may have put there: looked at before any memory is asked for."""

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from procosm.world_model.data.task import Task
from procosm.world_model.errors import DatasetError

SIGNAL = "signal-"
"""Begins the name of each signal's array."""
LETTERS = {"job": 64, "texts": 1024}
"""Of a job's name, and at most of what was asked for in an episode."""


def job_of(path: Path) -> str | None:
    """The job that collected a part, None for one of an older version.

    Raises:
        DatasetError: the file is damaged.
    """
    with _opened(path) as archive:
        return str(_array(archive, "job")) if "job.npy" in archive.namelist() else None


def read_arrays(path: Path, steps: int, task: Task) -> dict[str, np.ndarray]:
    """Every array of a part of ``steps`` steps, of the shapes and kinds that ``task`` gives it.

    Physics states are there where the true state is logged, texts where something was asked for in words.

    Raises:
        DatasetError: the file is damaged, or holds something else.
    """
    signals = {f"{SIGNAL}{name}": signal for name, signal in task.signals.items() if name != "termination"}
    names = ("job", "frames", "actions", "lengths", "terminated", "wide", *signals)
    names += ("physics",) if "state" in task.signals else ()
    with _opened(path) as archive:
        names += ("texts",) if "texts.npy" in archive.namelist() else ()
        if sorted(archive.namelist()) != sorted(f"{name}.npy" for name in names):
            raise ValueError(f"it holds {', '.join(archive.namelist())[:200]}")
        found = {name: _array(archive, name) for name in names}
        lengths, physics = found["lengths"], found.get("physics")
        if lengths.dtype != np.int64 or lengths.ndim != 1 or (lengths < 1).any() or (lengths > steps).any():
            raise ValueError("lengths are no steps of episodes")
        count, moments = len(lengths), steps + len(lengths)
        wanted: dict[str, tuple[tuple[int, ...], type]] = {
            "frames": ((moments, *task.frame_shape), np.uint8),
            "actions": ((steps, len(task.action_low)), np.float32),
            "terminated": ((count,), np.bool_),
            "wide": ((count,), np.bool_),
        }
        for name, signal in signals.items():
            wanted[name] = (moments if signal.per == "frame" else steps, *signal.shape), np.float32
        if physics is not None:
            wanted["physics"] = (moments, *physics.shape[1:2]), np.float64
        if "texts" in found and (found["texts"].shape != (count,) or found["texts"].dtype.kind != "U"):
            raise ValueError("texts are not one for each episode")
        if lengths.sum() != steps or (physics is not None and physics.ndim != 2):
            raise ValueError(f"its episodes have {lengths.sum()} steps, and the part has {steps}")
        for name, (shape, dtype) in wanted.items():
            array = found[name]
            if array.shape != shape or array.dtype != dtype:
                raise ValueError(f"{name} is {array.dtype} {array.shape}, and should be {np.dtype(dtype)} {shape}")
            if array.dtype.kind == "f" and not np.isfinite(array).all():
                raise ValueError(f"{name} holds values that are no finite numbers")
    return found


@contextmanager
def _opened(path: Path) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            size, members = path.stat().st_size, archive.infolist()
            # Ours are not compressed, so that no part can hold more than its file is long.
            if any(member.compress_type != zipfile.ZIP_STORED for member in members):
                raise ValueError("it is compressed, which ours are not")
            if sum(member.file_size for member in members) > size:
                raise ValueError("it says that it holds more than its file is long")
            yield archive
    except (OSError, ValueError, EOFError, KeyError, OverflowError, RuntimeError, zipfile.BadZipFile) as error:
        raise DatasetError(f"{path} is damaged ({error}): delete it and run the same command again") from error


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    """An array whose header says exactly what follows it."""
    content = io.BytesIO(archive.read(f"{name}.npy"))
    size = len(content.getbuffer())
    if np.lib.format.read_magic(content) != (1, 0):
        raise ValueError(f"{name} is of another version of NumPy's format")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(content)
    most = 4 * LETTERS[name] if name in LETTERS else 8
    if dtype.kind not in "biufU" or dtype.itemsize > most or (fortran and len(shape) > 1 and min(shape) > 1):
        raise ValueError(f"{name} is stored as {dtype}")
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != size - content.tell():
        raise ValueError(f"{name} says that it is {shape}, and its data are {size - content.tell():,} bytes")
    return np.frombuffer(content.getbuffer(), dtype, offset=content.tell()).reshape(shape)
