"""The growth test: does what a model reads of the world change in a dream as it did in truth?

A model can be right one step ahead and still bend every motion back to where it was (LOG.md). So changes since the
start of a dream are compared with the recorded ones, horizon by horizon, over all episodes that last so long.

States are logged exactly. Features are read off frames, by a head that also sees what no dream can foretell: where an
edge falls between two pixels. This reading noise is in every recorded change, twice, and at the end of a dream, where
the dream is compared with one more reading, once. It is measured and subtracted, by moments, as for any regression with
errors in the variables (Fuller, Measurement Error Models, 1987, section 1.2): else a perfect dream of noisy features
has an error of .7 and more. Noise at a dream's start is not subtracted: the dream goes on from what it was shown.
Letters: n episode or window, t step, s number of the state or feature, a action.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from procosm.world_model.data.on_disk import Rows, in_parts
from procosm.world_model.data.windows import Table, context_index, cut
from procosm.world_model.encoding import FRAMES, read_off
from procosm.world_model.evaluation.open_loop import ahead, imagine, readings, told_of
from procosm.world_model.interface import Dynamics

SAMPLE = 4096
"""Moments that reading noise is measured at, at most."""
FEWEST = 4
"""Moments for each number that an interpolation is fitted with, at least: of fewer, noise counts as none."""
CLEAR = 0.8
"""Share of a recorded change, in squares, that must not be noise for a horizon to be judged: noise at the start alone
can then make an error of .35."""


class Changes(NamedTuple):
    """Changes since the last real frame.

    Attributes:
        true, dreamed: (n, t, s), as recorded and as dreamed. there: (n, t), whether the episode lasts so long.
    """

    true: Tensor
    dreamed: Tensor
    there: Tensor


@torch.no_grad()
def changes(dynamics: Dynamics, name: str, table: Table, latents: Tensor | Rows, horizon: int) -> Changes | None:
    """What ``name`` did in each episode of a table after its first frames, and what the dream made of it.

    None where no episode outlasts the context.
    """
    k = dynamics.context
    first, last = torch.unique(table.first), torch.unique(table.last)
    at = (first + k - 1)[last - first >= k]  # velocities can be seen, and at least one step follows
    if not len(at):
        return None
    parts = [_changes(dynamics, name, table, latents, horizon, part) for part in in_parts(latents, at, FRAMES)]
    return Changes(*map(torch.cat, zip(*parts, strict=True)))


def _changes(dynamics: Dynamics, name: str, table: Table, latents: Tensor | Rows, horizon: int, at: Tensor) -> Changes:
    """The same since (n,) frames."""
    k = dynamics.context
    window, past = cut(table, at, k, horizon, latents), latents[context_index(table, at, k)]
    before, told = read_off(dynamics, name, past), told_of(window.signals)
    dream = [each.readouts[name] for each in imagine(dynamics, past, window.actions[:, k - 1 :], told)]
    start, after = (readings(dynamics, name, table, latents, each) for each in (at, ahead(table, at, horizon)))
    return Changes(after - start[:, None], torch.stack(dream, 1) - before[:, None], window.mask)


@torch.no_grad()
def reading_noise(dynamics: Dynamics, name: str, table: Table, latents: Tensor | Rows) -> Tensor:
    """(s,) variance of what is read of a moment and has nothing to do with what came before and after; () for none.

    States are logged, so theirs is 0. A feature is told, linearly, by itself one context before and one context after,
    which share no frame with it, and by what was done in between; what is left is its own noise, and theirs by the
    squares of their weights (Gasser, Sroka and Jennen-Steinmetz, Biometrika 73, 1986, with fitted weights). Each half
    of the moments is judged by what was fitted to the other. What bends too much to be told so counts as noise, so this
    is no less than the noise; what a dream does has no part in it.
    """
    k, lead = dynamics.context, table.steps.new_tensor(range(-dynamics.context, dynamics.context))
    inside = (table.steps - k >= table.first[table.steps]) & (table.steps + k <= table.last[table.steps])
    at = table.steps[inside].unique()  # one that is listed again would be in both halves
    if name == "state" or not len(at):
        return torch.zeros((), device=table.device)
    at = at[torch.linspace(0, len(at) - 1, min(SAMPLE, len(at))).long().to(at.device)]
    read = readings(dynamics, name, table, latents, at[:, None] + torch.tensor([-k, 0, k], device=at.device)).double()
    size = read.shape[2]
    told = torch.cat([read[:, 0], read[:, 2], table.actions[at[:, None] + lead].flatten(1)], dim=1)
    x, y = torch.cat([told, torch.ones_like(told[:, :1])], dim=1), read[:, 1]
    if len(x) < 2 * FEWEST * x.shape[1]:
        return torch.zeros(size, device=table.device)
    half, left, squares = len(x) // 2, y.new_zeros(size), y.new_zeros(size, size)
    for fit, judge in ((slice(half), slice(half, None)), (slice(half, None), slice(half))):
        weights = torch.linalg.lstsq(x[fit], y[fit]).solution
        left += (y[judge] - x[judge] @ weights).square().mean(0) / 2
        squares += (weights[:size].square() + weights[size : 2 * size].square()).T / 2
    noise = torch.linalg.solve(torch.eye(size).to(squares) + squares, left)
    return noise.clamp_min(0).minimum(left).float()


class Agreement(NamedTuple):
    """What a dream made of the changes that truly came about since its start.

    Attributes:
        horizon: steps since then. true, dreamed: (n, s), changes in standard deviations.
        slope: least squares of dreamed on true change; 1 is right, .5 is half the rate, 0 stands still.
        error: size of the difference over the size of the true change.
        noise: share of the recorded change, in squares, that is noise of reading; it is in neither of the two.
    """

    horizon: int
    true: Tensor
    dreamed: Tensor
    slope: float
    error: float
    noise: float


def agreement(true: Tensor, dreamed: Tensor, there: Tensor, noise: float = 0.0) -> Iterator[Agreement]:
    """That of (n, t, s) changes, at each horizon at which any of (n, t) is there and has changed.

    Args:
        noise: variances of the noise with which all numbers are read of a moment, added up, in the same units squared;
            a horizon at which the recorded change is mostly that is left out.
    """
    for h, here in enumerate(there.bool().unbind(1)):
        x, y = true[here, h], dreamed[here, h]
        recorded, once = float(x.square().sum()), len(x) * noise
        size = recorded - 2 * once
        if size <= 0 or size < CLEAR * recorded:
            continue
        slope = float((x * y).sum()) / size
        error = (max(float((y - x).square().sum()) - once, 0.0) / size) ** 0.5
        yield Agreement(h + 1, x, y, slope, error, 2 * once / recorded)


class Reading(NamedTuple):
    """What the growth test compares, and in what units.

    Attributes:
        name: ``state`` or ``features``. deviation: (s,), standard deviation of each of its numbers.
        noise: (s,) or (), variance of the noise with which it is read of a moment; 0 of what was logged.
    """

    name: str
    deviation: Tensor
    noise: Tensor


@torch.no_grad()
def growth(dynamics: Dynamics, reading: Reading, table: Table, latents: Tensor | Rows, horizon: int) -> list[Agreement]:
    """The growth test of the episodes of a table, in standard deviations; each number counts by the share of its
    variance that is not noise.

    Returns:
        one for each horizon at which something has changed; none where no episode outlasts the context.
    """
    found = changes(dynamics, reading.name, table, latents, horizon)
    if found is None:
        return []
    noise = reading.noise / reading.deviation.square()
    told = (1 - noise).clamp_min(0)
    weight, variance = told.sqrt() / reading.deviation, float((told * noise).sum())
    return list(agreement(found.true * weight, found.dreamed * weight, found.there, variance))
