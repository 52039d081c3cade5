"""Features learned without states, of worlds whose hidden state is known to the test alone."""

import dataclasses

import numpy as np
import pytest
import scipy.linalg
import torch

from procosm.world_model.data.batch import Batch
from procosm.world_model.features import FeatureLoss, axes_that_stay
from procosm.world_model.heads import FeatureHead

SHAPE, CONTEXT, HORIZON, SIZE = (4, 4, 4), 3, 4, 6


def pushed_masses(count: int, seed: int) -> tuple[Batch, torch.Tensor]:
    """Windows of a mass that actions push, and (count, length, 2), its place and speed at each latent.

    A latent shows the place in a few of its numbers, bent, and something that jumps about at will in all others.
    """
    g = torch.Generator().manual_seed(seed)
    length = CONTEXT + HORIZON
    place, speed = torch.randn(count, generator=g), 0.3 * torch.randn(count, generator=g)
    actions = torch.rand(count, length - 1, 1, generator=g) * 2 - 1
    states = [torch.stack([place, speed], 1)]
    for t in range(length - 1):
        speed = 0.95 * speed + 0.3 * actions[:, t, 0]
        place = place + 0.5 * speed
        states.append(torch.stack([place, speed], 1))
    hidden = torch.stack(states, 1)
    mix = torch.randn(3, 64, generator=torch.Generator().manual_seed(9))
    shown = torch.stack([hidden[..., 0], hidden[..., 0].sin(), hidden[..., 0].cos()], 2) @ mix
    latents = (shown + 0.02 * torch.randn(shown.shape, generator=g)).unflatten(2, SHAPE)
    ahead = hidden[:, CONTEXT:, 0]
    batch = Batch(
        frames=torch.empty(0),
        latents=latents,
        actions=actions,
        signals={"reward": -ahead.abs()},
        ends=(ahead > 2.0).float(),
        mask=torch.ones(count, HORIZON),
    )
    return batch, hidden


def fitted(batch: Batch) -> FeatureLoss:
    torch.manual_seed(0)
    loss = FeatureLoss(FeatureHead(CONTEXT, SHAPE, SIZE, hidden=64), 64, 1, hidden=64)
    # Each window is of an episode of its own.
    now, before, first = (batch.latents[:, at] for at in (CONTEXT, CONTEXT - 1, 0))
    loss.fit([now], [now - before], [now - first])
    return loss


def test_features_hold_place_and_speed_that_nobody_logged():
    batch, hidden = pushed_masses(2048, 0)
    loss = fitted(batch)
    adam = torch.optim.AdamW(loss.parameters(), 3e-3)
    for step in range(250):
        rows = slice(step % 8 * 256, step % 8 * 256 + 256)
        value, _ = loss(batch.rows(rows))
        adam.zero_grad()
        value.backward()
        adam.step()
    windows = batch.latents[:, :CONTEXT]
    loss.head.whiten([windows])
    unseen, truth = pushed_masses(1024, 1)
    with torch.no_grad():
        known, new = loss.head(windows), loss.head(unseen.latents[:, :CONTEXT])
    assert torch.allclose(known.mean(0), torch.zeros(SIZE), atol=1e-4)
    assert torch.allclose(known.std(0), torch.ones(SIZE), atol=1e-3)

    def curved(x: torch.Tensor) -> torch.Tensor:
        pairs = [(x[:, i] * x[:, j])[:, None] for i in range(SIZE) for j in range(i, SIZE)]
        return torch.cat([x, *pairs, torch.ones(len(x), 1)], 1)

    # A quadratic readout is far too weak to find speeds in latents, and finds them in features.
    at, there = hidden[:, CONTEXT - 1], truth[:, CONTEXT - 1]
    read = curved(new) @ torch.linalg.lstsq(curved(known), at).solution
    left = (read - there).square().mean(0) / there.var(0)
    assert left[0] < 0.03 and left[1] < 0.25, left


@pytest.mark.parametrize("logged", [True, False])
def test_what_lies_beyond_an_end_and_what_was_not_logged_bears_on_nothing(logged):
    batch, _ = pushed_masses(32, 0)
    loss = fitted(batch).eval()
    mask = batch.mask.clone()
    mask[:, 2:] = 0
    kept = dataclasses.replace(batch, mask=mask, signals=batch.signals if logged else {})
    garbage = torch.where(mask > 0, batch.signals["reward"], 1e3)
    other = dataclasses.replace(
        kept,
        ends=torch.where(mask > 0, batch.ends, 1 - batch.ends),
        signals={"reward": garbage} if logged else {},
    )
    ours, metrics = loss(kept)
    assert torch.equal(ours, loss(other)[0]) and ("reward" in metrics) == logged
    parts = [value for name, value in metrics.items() if name != "loss"]
    torch.testing.assert_close(ours.detach(), torch.stack(parts).sum())


def places_and_goals(episodes: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(episodes, 10, 64) latents of a place that moves, and faintly of a goal that stays; (episodes,) the goals."""
    g = torch.Generator().manual_seed(seed)
    goal, place = torch.randn(episodes, generator=g), torch.randn(episodes, 10, generator=g)
    mix = torch.randn(2, 64, generator=torch.Generator().manual_seed(9))
    noise = 0.2 * torch.randn(episodes, 10, 64, generator=g)
    return place[..., None] * mix[0] + 0.2 * goal[:, None, None] * mix[1] + noise, goal


def spreads(latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Covariances of (episodes, 10, d) latents and of what moments half an episode away are apart."""
    return tuple(torch.cov(each.flatten(0, 1).T.double()) for each in (latents, latents - latents.roll(5, 1)))


def test_the_axis_that_stays_tells_the_goal_and_the_widest_does_not():
    latents, goal = places_and_goals(200, 0)
    axes, goals = axes_that_stay(*spreads(latents), 8), goal.repeat_interleave(10).double()
    assert axes.shape == (64, 1), "nothing else stays"
    unseen, there = places_and_goals(100, 1)
    told, wanted = unseen.flatten(0, 1).double() @ axes[:, 0], there.repeat_interleave(10).double()
    assert abs(torch.corrcoef(torch.stack([told, wanted]))[0, 1]) > 0.8
    flat = latents.flatten(0, 1).double()
    widest = torch.linalg.eigh(torch.cov(flat.T)).eigenvectors[:, -1]
    assert abs(torch.corrcoef(torch.stack([flat @ widest, goals]))[0, 1]) < 0.2
    assert torch.allclose((flat @ axes).std(0), torch.ones(1, dtype=torch.float64))


def test_axes_that_stay_are_those_of_the_generalised_eigenproblem():
    """Against SciPy's own solver."""
    g = torch.Generator().manual_seed(3)
    goals, moves = 2 * torch.randn(40, 1, 6, generator=g), torch.randn(40, 10, 6, generator=g)
    whole, drift = spreads((goals + moves) @ torch.randn(6, 6, generator=g))
    within = drift.numpy() / 2 + 0.01 * np.trace(drift.numpy() / 2) / 6 * np.eye(6)
    ratios, expected = scipy.linalg.eigh(whole.numpy(), within)
    found = axes_that_stay(whole, drift, 3).numpy()
    assert found.shape == (6, 3) and ratios[-3] > 2
    for axis, other in zip(found.T, expected.T[::-1], strict=False):
        assert abs(axis @ other) / np.linalg.norm(axis) / np.linalg.norm(other) == pytest.approx(1, abs=1e-9)
        assert axis @ whole.numpy() @ axis == pytest.approx(1)


def test_where_nothing_stays_no_axis_does():
    latents = torch.randn(300, 10, 16, generator=torch.Generator().manual_seed(0))
    assert axes_that_stay(*spreads(latents), 8).shape == (16, 0)
    assert axes_that_stay(*spreads(latents[:1]), 8).isfinite().all(), "one short episode"


@pytest.mark.parametrize("staying", [True, False])
def test_features_tell_a_faint_goal_because_it_stays(staying):
    """The control has no axes that stay, and does not tell the goal: nothing else that it must tell needs it."""
    latents, goal = places_and_goals(400, 0)
    windows = latents[:, : CONTEXT + HORIZON].unflatten(2, SHAPE)
    count = len(windows)
    batch = Batch(
        frames=torch.empty(0),
        latents=windows,
        actions=torch.zeros(count, CONTEXT + HORIZON - 1, 1),
        signals={},
        ends=torch.zeros(count, HORIZON),
        mask=torch.ones(count, HORIZON),
    )
    loss = fitted(batch)
    moments, drifts = (each.flatten(0, 1) for each in (latents, latents - latents.roll(5, 1)))
    loss.fit([moments], [(latents[:, 1:] - latents[:, :-1]).flatten(0, 1)], [drifts])
    loss.axes[:, 1:], loss.motion_axes[:, 1:] = 0, 0  # the place and its motion, no axis of noise
    if not staying:
        loss.staying_axes.zero_()
    adam = torch.optim.AdamW(loss.parameters(), 3e-3)
    for step in range(120):
        value, _ = loss(batch.rows(slice(step % 2 * 200, step % 2 * 200 + 200)))
        adam.zero_grad()
        value.backward()
        adam.step()
    unseen, wanted = places_and_goals(300, 1)
    with torch.no_grad():
        known, new = (
            torch.cat([loss.head(each[:, :CONTEXT].unflatten(2, SHAPE)), torch.ones(len(each), 1)], 1)
            for each in (latents, unseen)
        )
    told = (new @ torch.linalg.lstsq(known, goal[:, None]).solution)[:, 0]
    left = (told - wanted).square().mean() / wanted.var()
    assert left < 0.1 if staying else left > 0.6, left
