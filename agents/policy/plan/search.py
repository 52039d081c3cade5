"""Searches for the sequence of actions that a score likes best: iCEM, MPPI, random shooting.

Axis letters: n plans side by side · k candidates · h steps · a numbers of an action. A score gives each of (n, k, h, a)
candidates its return, (n, k). Random numbers come from one generator, so that the same one finds the same plans.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

Score = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Bounds:
    """Of each number of an action, (a,)."""

    low: np.ndarray
    high: np.ndarray

    @property
    def half(self) -> np.ndarray:
        """Half of the range, (a,)."""
        return 0.5 * (self.high - self.low)

    def clip(self, actions: np.ndarray) -> np.ndarray:
        """Actions within the bounds, float32."""
        return np.clip(actions, self.low, self.high).astype(np.float32)


@dataclass(frozen=True)
class Found:
    """What a search ended with.

    Attributes:
        best: (n, h, a), the candidate with the greatest return of all that were scored. score: (n,), that return.
        mean: (n, h, a), what the search had come to. elites: (n, e, h, a), for the next step's search to begin with.
    """

    best: np.ndarray
    score: np.ndarray
    mean: np.ndarray
    elites: np.ndarray


def coloured(rng: np.random.Generator, shape: tuple[int, ...], beta: float) -> np.ndarray:
    """Noise (…, h, a) of variance 1 whose power falls with frequency as f^-β along h (iCEM, arXiv 2008.06389, §3.1).

    β = 0 is white; the greater, the longer a push goes on one way.
    """
    steps = shape[-2]
    frequencies = np.fft.rfftfreq(steps)
    frequencies[0] = 1.0 / steps  # the mean, too, has the power of the slowest wave
    sizes = frequencies ** (-beta / 2)
    draw = rng.standard_normal((2, *shape[:-2], len(frequencies), shape[-1]))
    spectrum = (draw[0] + 1j * draw[1]) * sizes[:, None]
    spectrum[..., 0, :] = draw[0, ..., 0, :] * sizes[0] * np.sqrt(2)  # these have no phase
    if steps % 2 == 0:
        spectrum[..., -1, :] = draw[0, ..., -1, :] * sizes[-1] * np.sqrt(2)
    power = 2 * sizes[0] ** 2 + 4 * (sizes[1:] ** 2).sum() - (2 * sizes[-1] ** 2 if steps % 2 == 0 else 0.0)
    return np.fft.irfft(spectrum, steps, axis=-2) * steps / np.sqrt(power)


def icem(
    score: Score,
    mean: np.ndarray,
    bounds: Bounds,
    rng: np.random.Generator,
    *,
    candidates: int,
    iterations: int,
    elites: int,
    std: float,
    beta: float = 2.0,
    keep: float = 0.3,
    momentum: float = 0.1,
    decay: float = 1.25,
    kept: np.ndarray | None = None,
) -> Found:
    """The improved cross-entropy method (arXiv 2008.06389, algorithm 1).

    Args:
        mean: (n, h, a) to begin with; it is a candidate itself.
        candidates: of the first iteration; each later one has 1/``decay`` of them, and twice the elites at least.
        elites: the best of an iteration, to whose mean and deviation the next one's move, but for ``momentum``.
        std: first deviation, as a share of half the range. beta: colour of the noise.
        keep: share of the elites that are candidates again. kept: (n, e, h, a), elites of the step before, shifted.
    """
    n, h, a = mean.shape
    deviation = np.broadcast_to(std * bounds.half, mean.shape)
    again = mean[:, None] if kept is None else np.concatenate([mean[:, None], kept], axis=1)
    best = Best(n)
    for iteration in range(iterations):
        count = max(2 * elites, round(candidates * decay**-iteration)) - again.shape[1]
        drawn = mean[:, None] + deviation[:, None] * coloured(rng, (n, max(count, 1), h, a), beta)
        tried = bounds.clip(np.concatenate([drawn, again], axis=1))
        returns = score(tried)
        best.see(tried, returns)
        chosen = take(tried, np.argsort(-returns, axis=1, kind="stable")[:, :elites])
        mean = momentum * mean + (1 - momentum) * chosen.mean(1)
        deviation = momentum * deviation + (1 - momentum) * chosen.std(1)
        again = chosen[:, : max(1, round(keep * elites))]
        if iteration == iterations - 2:
            again = np.concatenate([again, mean[:, None]], axis=1)
    return Found(best.plan, best.score, bounds.clip(mean), again)


def mppi(
    score: Score,
    mean: np.ndarray,
    bounds: Bounds,
    rng: np.random.Generator,
    *,
    candidates: int,
    iterations: int,
    std: float,
    beta: float = 0.0,
    temperature: float = 0.3,
) -> Found:
    """Model predictive path integral control: the mean of all candidates, weighted by exp(return / λ) (Williams et al.,
    "Information theoretic MPC", ICRA 2017, algorithm 2), again in each iteration.

    Args:
        mean: (n, h, a) to begin with; it is a candidate itself. std: of the noise, as a share of half the range.
        temperature: λ in deviations of the returns of an iteration's candidates, so that no unit of rewards matters.
    """
    best, n = Best(len(mean)), len(mean)
    for _ in range(iterations):
        noise = std * bounds.half * coloured(rng, (n, max(1, candidates - 1), *mean.shape[1:]), beta)
        tried = bounds.clip(mean[:, None] + np.concatenate([noise, np.zeros_like(noise[:, :1])], axis=1))
        returns = score(tried)
        best.see(tried, returns)
        scale = np.maximum(temperature * returns.std(1, keepdims=True), 1e-12)
        weights = np.exp((returns - returns.max(1, keepdims=True)) / scale)
        mean = np.einsum("nk,nkha->nha", weights / weights.sum(1, keepdims=True), tried)
    plan = bounds.clip(mean)
    return Found(plan, score(plan[:, None])[:, 0], plan, plan[:, None])


def random_shooting(
    score: Score, mean: np.ndarray, bounds: Bounds, rng: np.random.Generator, *, candidates: int
) -> Found:
    """The best of sequences drawn uniformly within the bounds; ``mean`` only says how many and how long."""
    shape = (len(mean), candidates, *mean.shape[1:])
    tried = bounds.clip(rng.uniform(bounds.low, bounds.high, shape))
    best = Best(len(mean))
    best.see(tried, score(tried))
    return Found(best.plan, best.score, best.plan, best.plan[:, None])


def take(tried: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Of (n, k, h, a) candidates those at (n, m) indices, (n, m, h, a)."""
    return np.take_along_axis(tried, index[:, :, None, None], axis=1)


def shifted(plans: np.ndarray) -> np.ndarray:
    """(…, h, a) plans a step later; the last action is done once more."""
    return np.concatenate([plans[..., 1:, :], plans[..., -1:, :]], axis=-2)


class Best:
    """The best candidate seen for each of n plans."""

    def __init__(self, n: int) -> None:
        self.score = np.full(n, -np.inf)
        self.plan = np.empty(0)

    def see(self, tried: np.ndarray, returns: np.ndarray) -> None:
        """Look at (n, k, h, a) candidates and their (n, k) returns."""
        index = returns.argmax(1)
        found, plans = returns[np.arange(len(index)), index], take(tried, index[:, None])[:, 0]
        better = found > self.score
        self.plan = np.where(better[:, None, None], plans, self.plan) if self.plan.size else plans
        self.score = np.maximum(self.score, found)
