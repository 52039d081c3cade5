"""Whether the frames of a clip answer to its actions: the faults that robot logs really have."""

from dataclasses import dataclass

import numpy as np

LAGS = 6
"""Steps by which actions may lie early or late and be found."""
STILL = 0.15
"""Mean difference of brightness, of 255, below which two frames show the same: what a codec's noise makes of it."""


@dataclass(frozen=True)
class Answer:
    """How well actions explain a clip.

    Attributes:
        agreement: correlation of logged actions with those that the frames suggest, -1 to 1.
        lag: steps by which actions would have to be moved back to agree best. gain: what that would gain, 0 at lag 0.
    """

    agreement: float
    lag: int
    gain: float


def compare(logged: np.ndarray, estimated: np.ndarray, weights: np.ndarray) -> Answer:
    """Logged actions against those that the frames suggest, both (T, a), weighted by how well each can be told.

    A lag of 2 says that frames answer two steps after the action was logged.
    """
    longest = min(LAGS, len(logged) // 3)
    found = {lag: correlation(*moved(logged, estimated, lag), weights) for lag in range(-longest, longest + 1)}
    best = max(found, key=lambda lag: (found[lag], -abs(lag)))
    return Answer(found[0], best, found[best] - found[0])


def moved(logged: np.ndarray, estimated: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """The steps that two sequences share when the logged one is moved ``lag`` steps back."""
    count = len(logged) - abs(lag)
    return logged[max(0, -lag) :][:count], estimated[max(0, lag) :][:count]


def correlation(first: np.ndarray, second: np.ndarray, weights: np.ndarray) -> float:
    """Mean over the columns of their correlations, by weight; a column that does not vary correlates with nothing."""
    first, second = first - first.mean(0), second - second.mean(0)
    scale = np.sqrt(np.square(first).sum(0) * np.square(second).sum(0))
    each = np.divide((first * second).sum(0), scale, out=np.zeros_like(scale), where=scale > 1e-9)
    return float((each * weights).sum() / max(float(weights.sum()), 1e-9))


def longest_still(change: np.ndarray, actions: np.ndarray) -> float:
    """Share of a clip's steps in its longest run of equal frames in which the actions go on changing.

    Args:
        change: (T,) mean difference of neighbouring frames, of 255. actions: (T, a).
    """
    longest, begin = 0, 0
    for step in range(len(change) + 1):
        if step < len(change) and change[step] < STILL:
            continue
        if step - begin > longest and np.ptp(actions[begin:step], axis=0).max() > 1e-6:
            longest = step - begin
        begin = step + 1
    return longest / max(1, len(change))


def largest_gap(times_s: np.ndarray, dt_s: float) -> float:
    """Frames that are missing at the clip's largest gap between timestamps (n,), in steps of ``dt_s``."""
    return float(np.diff(times_s).max() / dt_s - 1) if len(times_s) > 1 else 0.0


def clock_drift(times_s: np.ndarray, dt_s: float) -> float:
    """How far timestamps (n,) leave the clock of ``dt_s`` that begins with them, in steps, at the worst."""
    return float(np.abs((times_s - times_s[0]) / dt_s - np.arange(len(times_s))).max())
