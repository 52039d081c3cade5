"""What video is usually coded with, brought down to a number of bytes: JPEG for images, H.264 for clips.

Only the bytes of the pictures themselves count: JPEG's tables, H.264's parameter sets and x264's message about itself
can be sent once for any number of pictures. That favours the codecs, as a tokenizer's weights do not count either.
"""

import io
import re
from collections.abc import Callable
from fractions import Fraction
from functools import partial
from typing import Any, Protocol

import av
import numpy as np
from PIL import Image

CHROMA = ("full", "half")
"""Resolution of colours."""
SUBSAMPLING = {"full": "4:4:4", "half": "4:2:0"}
PIXELS = {"full": "yuv444p", "half": "yuv420p"}
SCAN, SLICES = b"\xff\xda", (1, 5)
"""Marker before JPEG's picture; types of the NAL units that hold H.264's."""

Coded = tuple[np.ndarray, float]
"""Decoded frames (t, H, W, 3) uint8, and bytes for each."""


class Codec(Protocol):
    """Codes a clip (t, H, W, 3) at a quality from 0 (fewest bytes) to 100."""

    def __call__(self, frames: np.ndarray, quality: int, chroma: str) -> Coded: ...


def jpeg(frames: np.ndarray, quality: int, chroma: str) -> Coded:
    """Every frame by itself."""
    decoded, size = [], 0
    for frame in frames:
        memory = io.BytesIO()
        Image.fromarray(frame).save(memory, "JPEG", quality=max(quality, 1), subsampling=SUBSAMPLING[chroma])
        content = memory.getvalue()
        size += len(content) - content.index(SCAN) - 14  # the scan's own header has 12 bytes, the end 2
        decoded.append(np.asarray(Image.open(memory)))
    return np.stack(decoded), size / len(frames)


def h264(frames: np.ndarray, quality: int, chroma: str) -> Coded:
    """A clip with x264's slow preset; the first frame is the only key frame."""
    coder: Any = av.CodecContext.create("libx264", "w")
    coder.height, coder.width, coder.pix_fmt = *frames.shape[1:3], PIXELS[chroma]
    coder.time_base, coder.thread_count = Fraction(1, 25), 1
    coder.options = {"crf": str(51 * (100 - quality) / 100), "preset": "slow"}
    packets = [
        packet
        for index, frame in enumerate([*frames, None])
        for packet in coder.encode(None if frame is None else _picture(frame, index))
    ]
    decoder: Any = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    decoded = [frame for packet in [*packets, None] for frame in decoder.decode(packet)]
    shown = np.stack([frame.to_ndarray(format="rgb24") for frame in decoded])
    return shown, sum(_picture_bytes(bytes(packet)) for packet in packets) / len(frames)


def _picture(frame: np.ndarray, index: int) -> av.VideoFrame:
    picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgb24")
    picture.pts = index
    return picture


def _picture_bytes(stream: bytes) -> int:
    """Of the NAL units with slices, in a stream with start codes (ISO 14496-10, annex B)."""
    units = re.split(b"\x00\x00\x01", stream)[1:]
    return sum(len(unit.rstrip(b"\x00")) for unit in units if unit and unit[0] & 31 in SLICES)


def best_within(codec: Codec, frames: np.ndarray, target: float) -> Coded:
    """The frames nearest to the real ones that fit into ``target`` bytes each; else the fewest bytes there are."""
    found = [_within(partial(codec, chroma=chroma), frames, target) for chroma in CHROMA]
    fitting = [each for each in found if each[1] <= target]
    if not fitting:
        return min(found, key=lambda each: each[1])
    return min(fitting, key=lambda each: np.square(each[0].astype(np.float32) - frames).mean())


def _within(codec: Callable[[np.ndarray, int], Coded], frames: np.ndarray, target: float) -> Coded:
    """The highest quality of 0 to 100 that fits, by bisection; else the lowest."""
    low, high = 0, 100
    best = codec(frames, low)
    while low < high:
        middle = (low + high + 1) // 2
        found = codec(frames, middle)
        if found[1] <= target:
            low, best = middle, found
        else:
            high = middle - 1
    return best
