"""What can be wrong with a picture: blur, darkness, nothing to see, text laid over it."""

import numpy as np

LOOKS = 8
"""Frames of a clip that are looked at, evenly spread."""


def spread(frames: np.ndarray, count: int = LOOKS) -> np.ndarray:
    """At most ``count`` of the frames, evenly spread."""
    return frames[np.unique(np.linspace(0, len(frames) - 1, count).round().astype(int))]


def brightness(frames: np.ndarray) -> float:
    """Of a clip, 0 black to 1 white: the 90th percentile of its pixels, so that a dark background alone is not dark."""
    import cv2

    return float(np.percentile([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in spread(frames)], 90) / 255)


def contrast(frames: np.ndarray) -> float:
    """Distance between the 1st and the 99th percentile of brightness, 0 to 1: small where a picture shows nothing."""
    import cv2

    low, high = np.percentile([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in spread(frames)], (1, 99))
    return float((high - low) / 255)


def blur(frames: np.ndarray) -> float:
    """How little sharper a clip is than its blurred copy, 0 sharp to 1 (Crété-Roffet et al. 2007).

    Only the strongest edges are asked: a wall is smooth in every picture.
    """
    import cv2

    shares = []
    for frame in spread(frames):
        picture = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        for axis in (0, 1):
            softened = cv2.blur(picture, (1, 9) if axis == 0 else (9, 1))
            sharp, soft = np.abs(np.diff(picture, axis=axis)), np.abs(np.diff(softened, axis=axis))
            edges = sharp >= max(float(np.percentile(sharp, 98)), 1.0)
            if edges.any():
                shares.append(float(soft[edges].sum() / sharp[edges].sum()))
    return float(np.mean(shares)) if shares else 1.0


def overlay_text(frames: np.ndarray) -> float:
    """Share of a picture's width that the longest line of letter-like shapes takes which stands still in all frames.

    A simple detector: strokes of one brightness that no frame moves, in a row, of one height. It sees captions,
    clocks and watermarks in block letters; not handwriting, text that scrolls, or letters of fewer than 6 pixels.
    """
    import cv2

    pictures = np.stack([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in spread(frames)]).astype(np.int16)
    still = np.ptp(pictures, axis=0) <= 24
    middle = np.median(pictures, axis=0).astype(np.uint8)
    longest = 0.0
    for shown in (middle, 255 - middle):
        strokes = cv2.morphologyEx(shown, cv2.MORPH_TOPHAT, np.ones((7, 7), np.uint8))
        mask = ((strokes > 60) & (shown > 170) & still).astype(np.uint8)
        count, _, boxes, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        letters = [tuple(box[:4]) for box in boxes[1:count] if 5 <= box[3] <= 40 and 1 <= box[2] <= 2 * box[3]]
        longest = max(longest, _longest_line(letters))
    return longest / frames.shape[2]


def _longest_line(boxes: list[tuple[int, int, int, int]]) -> float:
    """Width in pixels of the longest row of four boxes or more: one base line, one height, gaps below a height."""
    longest = 0.0
    for _, top, _, height in boxes:
        row = sorted(b for b in boxes if abs(b[1] + b[3] - top - height) <= 2 and abs(b[3] - height) <= height // 3)
        run = row[:1]
        for box in row[1:]:
            near = box[0] - (run[-1][0] + run[-1][2]) <= height
            run = [*run, box] if near else [box]
            if len(run) >= 4:
                longest = max(longest, float(run[-1][0] + run[-1][2] - run[0][0]))
    return longest
