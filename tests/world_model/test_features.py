"""Features learned without states, of worlds whose hidden state is known to the test alone."""

import dataclasses

import pytest
import torch

from procosm.world_model.data.batch import Batch
from procosm.world_model.features import FeatureLoss
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
    loss.fit([batch.latents[:, CONTEXT]], [batch.latents[:, CONTEXT] - batch.latents[:, CONTEXT - 1]])
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
