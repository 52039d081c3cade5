"""What page and server say to each other, and the bounds of everything a page may ask.

A page sends JSON objects ``{"do": NAME, "value": ...}``. The server answers with text for a welcome or an error, and
with binary views: the length of a JSON header (4 bytes, little-endian), the header, the dream's frame and MuJoCo's
(uint8, H × W × 3 each; the second is left out where there is none).
"""

import json
import struct
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from procosm.world_model.errors import ProcosmError

MESSAGE_BYTES = 2048
"""Longest message of a page."""
MOST_DENOISING = 16
SLOWEST, FASTEST = 0.05, 8.0
PILOTS = ("human", "policy")
"""Who steers: the human, the same in both worlds, or the policy, in each world as it sees that world."""


class PlayError(ProcosmError):
    """A page asked for something impossible, or the server cannot serve."""


class Command(NamedTuple):
    """One wish of a page; ``sent_ms`` is the page's own clock, which a view gives back."""

    name: str
    value: Any
    sent_ms: float | None


def _whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _number(low: float, high: float) -> Callable[[Any], bool]:
    # What is not a number fails both comparisons.
    return lambda value: isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high


def _stick(value: Any) -> bool:
    return isinstance(value, list) and 1 <= len(value) <= 64 and all(map(_number(-1, 1), value))


ACCEPTED: dict[str, Callable[[Any], bool]] = {
    "steer": _stick,  # one number in [-1, 1] for each motor
    "pilot": lambda value: value in PILOTS,
    "pause": lambda value: isinstance(value, bool),
    "step": lambda value: value is None,
    "new": lambda value: value is None,
    "show": _whole(0, 10**9),  # the step to look at
    "horizon": _whole(1, 10**6),
    "denoising": _whole(1, MOST_DENOISING),
    "speed": _number(SLOWEST, FASTEST),  # 1 is real time
    "instruct": lambda value: isinstance(value, str) and len(value) <= 500,  # what the next dream is told in words
    "record": lambda value: isinstance(value, bool),
    "seen": _whole(1, 2**53),  # the number of the newest view that was drawn
}


def parse(message: str | bytes) -> Command:
    """The command in a page's message.

    Raises:
        PlayError: it is none, or its value is out of bounds.
    """
    try:
        wish = json.loads(message)
        name, value, sent = wish["do"], wish.get("value"), wish.get("sent_ms")
        fine = ACCEPTED[name](value) and (sent is None or _number(0, 1e15)(sent))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise PlayError(f"a page sent something that is no command ({type(error).__name__}): reload it") from error
    if not fine:
        raise PlayError(f"a page asked for {name!r} with a value out of bounds: reload it")
    return Command(name, value, sent)


def pack(header: dict[str, Any], frames: Sequence[np.ndarray]) -> bytes:
    """A view: header and frames (H, W, 3) uint8 as one message."""
    text = json.dumps(header, allow_nan=False).encode()
    return b"".join([struct.pack("<I", len(text)), text, *(frame.tobytes() for frame in frames)])


def unpack(message: bytes) -> tuple[dict[str, Any], np.ndarray]:
    """Header and frames (1 or 2, H, W, 3) of a view; its ``frame_size`` is [H, W]."""
    (length,) = struct.unpack_from("<I", message)
    header = json.loads(message[4 : 4 + length])
    return header, np.frombuffer(message, np.uint8, offset=4 + length).reshape(-1, *header["frame_size"], 3)
