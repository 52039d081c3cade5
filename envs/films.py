"""Short films: frames side by side, enlarged and labelled, as mp4 that every browser plays."""

import io
from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image, ImageDraw, ImageFont

from procosm.world_model.files import write_bytes

SCALE = 4
BAND = 28
"""Height in pixels of the strip of text above a picture."""
PAPER, INK = (18, 20, 24), (235, 235, 230)


def panel(frames: Sequence[np.ndarray], labels: Sequence[str]) -> np.ndarray:
    """Equal frames (H, W, 3) uint8 side by side, each four times as large under its label."""
    large = [frame.repeat(SCALE, axis=0).repeat(SCALE, axis=1) for frame in frames]
    height, width = large[0].shape[:2]
    page = Image.new("RGB", (width * len(large), height + BAND), PAPER)
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(size=15)
    for i, (picture, label) in enumerate(zip(large, labels, strict=True)):
        page.paste(Image.fromarray(picture), (i * width, BAND))
        draw.text((i * width + 8, BAND // 2), label, fill=INK, font=font, anchor="lm")
    return np.asarray(page)


def difference(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8: how far two frames are apart; black where they agree."""
    return np.abs(first.astype(np.int16) - second.astype(np.int16)).astype(np.uint8)


def write_mp4(path: Path, pictures: Sequence[np.ndarray], frames_per_second: int) -> Path:
    """H.264 of pictures (H, W, 3) uint8 with even sides, whole or not at all; returns ``path``.

    Raises:
        ProcosmError: the disk is full.
    """
    memory = io.BytesIO()
    height, width = pictures[0].shape[:2]
    with av.open(memory, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=frames_per_second, options={"crf": "20", "preset": "fast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for picture in pictures:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    write_bytes(path, memory.getvalue())
    return path
