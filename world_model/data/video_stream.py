"""Video files frame by frame: read without holding them in memory, and written in parts that are joined."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from procosm.world_model.errors import DatasetError

MOST_SIDE = 8192
"""Pixels of a frame along either side, at most."""
LOSSLESS = 0
"""The quality (H.264's constant rate factor) at which every pixel comes back as it was, in RGB."""


@dataclass(frozen=True)
class About:
    """Of a video file: how many frames it holds, their size in pixels, and the mean seconds between two.

    A player, and ``frames_of``, may leave out some of them, which an edit list hides.
    """

    frames: int
    height: int
    width: int
    dt_s: float


def probe(path: Path) -> About:
    """What a video file says of itself, without decoding it.

    Raises:
        DatasetError: it is missing, no video, or a damaged one.
    """
    try:
        with av.open(str(path)) as container:
            stream = _picture_stream(container, path)
            frames = sum(1 for packet in container.demux(stream) if packet.size)
            rate = stream.average_rate or stream.guessed_rate
            if not (frames and rate):
                raise DatasetError(f"{path} does not say how many frames it has, or how many a second")
            if frames < stream.frames:
                raise DatasetError(f"{path} is cut off: it says that it has {stream.frames} frames, and has {frames}")
            if max(stream.height, stream.width) > MOST_SIDE:
                raise DatasetError(
                    f"{path} shows {stream.width} x {stream.height} pixels; at most {MOST_SIDE} can be read"
                )
            return About(frames, stream.height, stream.width, float(1 / rate))
    except FileNotFoundError as error:
        raise DatasetError(f"there is no {path}") from error
    except (av.FFmpegError, OSError, ValueError) as error:
        raise DatasetError(f"{path} is no video, or a damaged one ({error})") from error


def frames_of(path: Path) -> Iterator[np.ndarray]:
    """The frames (H, W, 3) uint8 of a video file, one after another.

    Raises:
        DatasetError: it is missing, no video, or a damaged one.
    """
    try:
        with av.open(str(path)) as container:
            stream = _picture_stream(container, path)
            stream.codec_context.thread_count = 1  # others work beside this one
            for frame in container.decode(stream):
                if frame.is_corrupt:
                    raise DatasetError(f"{path} is damaged at {frame.time} s")
                yield frame.to_ndarray(format="rgb24")
    except FileNotFoundError as error:
        raise DatasetError(f"there is no {path}") from error
    except (av.FFmpegError, OSError, ValueError, IndexError) as error:
        raise DatasetError(f"{path} is no video, or a damaged one ({error})") from error


def encode_part(frames: np.ndarray, dt_s: float, quality: int) -> bytes:
    """An mp4 of frames (n, H, W, 3) uint8 that can be joined to others made alike.

    Args:
        dt_s: seconds between two frames. quality: ``LOSSLESS``, or up to 51.
    """
    memory, rate = io.BytesIO(), Fraction(1 / dt_s).limit_denominator(1001)
    height, width = frames.shape[1:3]
    with av.open(memory, "w", format="mp4") as container:
        codec = "libx264rgb" if quality == LOSSLESS else "libx264"
        # Without frames that wait for later ones, so that each part's packets come after the last one's.
        options = {"crf": str(quality), "preset": "fast", "bf": "0"}
        stream: Any = container.add_stream(codec, rate=rate, options=options)
        stream.codec_context.thread_count = 1
        stream.height, stream.width = height, width
        even = height % 2 == 0 and width % 2 == 0
        stream.pix_fmt = "rgb24" if quality == LOSSLESS else "yuv420p" if even else "yuv444p"
        for index, frame in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
            picture.pts, picture.time_base = index, 1 / rate
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return memory.getvalue()


def join_parts(paths: Sequence[Path]) -> bytes:
    """Parts made alike, one after another as one mp4; nothing is coded again.

    Raises:
        DatasetError: one is missing or damaged.
    """
    memory, begin = io.BytesIO(), 0
    with av.open(memory, "w", format="mp4") as joined:
        target: Any = None
        for path in paths:
            try:
                with av.open(str(path)) as container:
                    source, end = container.streams.video[0], begin
                    target = target or joined.add_stream_from_template(source)
                    for packet in container.demux(source):
                        if packet.pts is not None and packet.dts is not None:  # the last one is empty
                            end = max(end, begin + packet.pts + (packet.duration or 0))
                            packet.pts, packet.dts, packet.stream = packet.pts + begin, packet.dts + begin, target
                            joined.mux(packet)
                    begin = end
            except (av.FFmpegError, OSError, IndexError) as error:
                raise DatasetError(
                    f"{path} is missing or damaged ({error}): delete it and run the command again"
                ) from error
    return memory.getvalue()


def _picture_stream(container: Any, path: Path) -> Any:
    if not container.streams.video:
        raise DatasetError(f"{path} holds no video")
    return container.streams.video[0]
