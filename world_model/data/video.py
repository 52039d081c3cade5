"""Video files as arrays of frames: a part of one, at a size that is asked for; what is damaged is named."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np

from procosm.world_model.errors import DatasetError

MOST_BYTES = 8 * 2**30
"""Of the frames of one recording, decoded."""
MOST_SIDE = 8192


def decode(
    source: Path | bytes,
    where: str,
    height: int | None = None,
    begin_s: float = 0.0,
    count: int | None = None,
    tolerance_s: float = 1e-3,
) -> tuple[np.ndarray, np.ndarray]:
    """Frames (n, H, W, 3) uint8 of a video file, and their times (n,) in seconds.

    Args:
        source: a path, or the file's bytes. where: what errors call it.
        height: pixels that frames are brought to, in proportion; None leaves them as they are.
        begin_s: time of the first frame wanted. count: frames wanted; None takes all from there on.
        tolerance_s: how much earlier than ``begin_s`` the first frame's time may stand in the file.

    Raises:
        DatasetError: it is no video, is damaged or cut off, ends before ``count`` frames, or is too large.
    """
    frames: list[np.ndarray] = []
    times: list[float] = []
    opened: Any = io.BytesIO(source) if isinstance(source, bytes) else str(source)
    try:
        with av.open(opened, "r") as container:
            for frame, time_s in _from(container, where, begin_s - tolerance_s):
                if count is not None and len(frames) == count:
                    break
                size = _size(frame, height)
                if (len(frames) + 1) * size[0] * size[1] * 3 > MOST_BYTES:
                    raise DatasetError(f"{where} holds more than {MOST_BYTES / 1e9:.0f} GB of frames: cut it up, or "
                                       "bring its frames to fewer pixels (--height)")  # fmt: skip
                scaled = frame.reformat(size[1], size[0], "rgb24", interpolation="AREA")
                frames.append(scaled.to_ndarray())
                times.append(time_s)
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise DatasetError(f"{where} is no video, or a damaged one ({error})") from error
    if not frames or (count is not None and len(frames) < count):
        wanted = "one is needed" if count is None else f"{count} are needed"
        raise DatasetError(f"{where} is cut off: it holds {len(frames)} frames from {begin_s:.3f} s on, and {wanted}")
    return np.stack(frames), np.array(times)


def _size(frame: av.VideoFrame, height: int | None) -> tuple[int, int]:
    """(height, width) that a frame is brought to."""
    if height is None or height == frame.height:
        return frame.height, frame.width
    return height, max(1, round(frame.width * height / frame.height))


def _from(container: av.container.InputContainer, where: str, begin_s: float) -> Iterator[tuple[av.VideoFrame, float]]:
    """The frames from a time on, each with its own."""
    if not container.streams.video:
        raise DatasetError(f"{where} holds no video")
    stream = container.streams.video[0]
    stream.codec_context.thread_count = 1  # others work beside this one
    if not 0 < max(stream.width, stream.height) <= MOST_SIDE:
        raise DatasetError(f"{where} shows {stream.width} x {stream.height} pixels; at most {MOST_SIDE} can be read")
    if begin_s > 0 and stream.time_base:
        container.seek(int(begin_s / stream.time_base), stream=stream)
    for frame in container.decode(stream):
        if frame.is_corrupt:
            raise DatasetError(f"{where} is damaged at {frame.time} s")
        if frame.time is None:
            raise DatasetError(f"{where} has a frame without a time")
        if frame.time >= begin_s:
            yield frame, float(frame.time)
