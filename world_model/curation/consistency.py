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
        agreement: of logged actions with those that the frames suggest: about 0 if they are shuffled, about 1 if they
            agree as is usual.
        lag: steps by which actions would have to be moved back to agree best. gain: what that would gain, 0 at lag 0.
    """

    agreement: float
    lag: int
    gain: float


def compare(logged: np.ndarray, estimated: np.ndarray, evidence: np.ndarray, usual: float) -> Answer:
    """Logged actions against those that the frames suggest, both (T, a); ``evidence`` is what each product counts.

    ``usual`` is by how many standard deviations of shuffled actions those of a clip of this length stand out.
    A lag of 2 says that frames answer two steps after the action was logged.
    """
    longest = min(LAGS, len(logged) // 3)
    lags = range(-longest, longest + 1)
    found = {lag: standing_out(*moved(logged, estimated, lag), evidence) / usual for lag in lags}
    best = max(found, key=lambda lag: (found[lag], -abs(lag)))
    return Answer(found[0], best, found[best] - found[0])


def moved(logged: np.ndarray, estimated: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    """The steps that two sequences share when the logged one is moved ``lag`` steps back."""
    count = len(logged) - abs(lag)
    return logged[max(0, -lag) :][:count], estimated[max(0, lag) :][:count]


def standing_out(first: np.ndarray, second: np.ndarray, evidence: np.ndarray) -> float:
    """Sum of the products of two (T, a), each less its mean and times its evidence (a,), over the standard deviation
    that this sum has if the rows of the first are shuffled, in closed form (its mean is then 0)."""
    first, second = (values.astype(np.float64) - values.mean(0, np.float64) for values in (first, second))
    second *= evidence
    variance = float(((first.T @ first) * (second.T @ second)).sum()) / max(1, len(first) - 1)
    return float((first * second).sum() / variance**0.5) if variance > 1e-18 else 0.0


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


def clock_drift(times_s: np.ndarray, dt_s: float) -> float:
    """How far timestamps (n,) leave the clock of ``dt_s`` that begins with them, in steps, at the worst."""
    return float(np.abs((times_s - times_s[0]) / dt_s - np.arange(len(times_s))).max())
