"""How often guardrails refuse MuJoCo video that nothing is wrong with, and how often they find faces on robots.

Beside each rate stands a control that must be high: the same video with a fault, a portrait in the robot's picture.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy.stats import beta

from procosm.benchmarks.dream.curation.recordings import Recording
from procosm.world_model.guardrails.faces import FaceBlur
from procosm.world_model.guardrails.frames import check_video

Row = dict[str, Any]
SIDES = (64, 128)
"""Pixels at which faces are looked for; video of 64 is enlarged."""
LOOKS = 4
"""Frames of a clip in which faces are looked for."""


def guarded(recordings: Sequence[Recording], seed: int) -> list[Row]:
    """Rates with Clopper and Pearson's 95 % interval; n is clips, or frames of faces."""
    rng = np.random.default_rng(seed)
    rows = []
    broken: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "": lambda frames: frames,
        " with one bright frame": lambda frames: _flash(frames, rng),
        " with half of it still": _still,
    }
    for recording in recordings:
        for kind, change in broken.items():
            refused = [not check_video(change(frames), actions).passed for frames, actions in recording.episodes]
            rows.append(_rate(f"guard refuses robot video{kind}", refused, seed, recording.task.id))
        rows += _faces(recording, seed)
    return rows


def _faces(recording: Recording, seed: int) -> list[Row]:
    import cv2
    from skimage import data

    blur, rows = FaceBlur(), []
    face = data.astronaut()[:256, 100:356]
    for side in SIDES:
        looks = [np.linspace(0, len(frames) - 1, LOOKS).round().astype(int) for frames, _ in recording.episodes]
        shown = [
            cv2.resize(frame, (side, side), interpolation=cv2.INTER_CUBIC)
            for (frames, _), look in zip(recording.episodes, looks, strict=True)
            for frame in frames[look]
        ]
        found = [bool(blur.find(frame[None])) for frame in shown]
        rows.append(_rate(f"faces found on robots, {side} pixels", found, seed, recording.task.id))
    small = cv2.resize(face, (64, 64), interpolation=cv2.INTER_AREA)
    for frame in shown:
        frame[:64, :64] = small
    hit = [bool(blur.find(frame[None])) for frame in shown]
    rows.append(_rate("portrait found beside the robot, 128 pixels", hit, seed, recording.task.id))
    return rows


def _flash(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    lit = frames.copy()
    at = int(rng.integers(5, len(frames) - 5))
    lit[at] = 255 - (255 - lit[at]) // 3
    return lit


def _still(frames: np.ndarray) -> np.ndarray:
    stalled = frames.copy()
    stalled[len(frames) // 2 :] = frames[len(frames) // 2]
    return stalled


def _rate(metric: str, found: Sequence[bool], seed: int, task: str) -> Row:
    k, n = sum(found), len(found)
    low = float(beta.ppf(0.025, k, n - k + 1)) if k else 0.0
    high = float(beta.ppf(0.975, k + 1, n - k)) if k < n else 1.0
    rates = {"value": round(k / n, 4), "low": round(low, 4), "high": round(high, 4)}
    return {"metric": metric, "task": task, **rates, "unit": "1", "seed": seed, "n": n}
