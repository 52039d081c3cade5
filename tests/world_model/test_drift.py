"""The chains of offsets: what they keep of an error, when they begin anew, that they find where a network drifts."""

import pytest
import torch

from procosm.world_model.diffusion.drift import ALONG, FRESH, Drift

SHAPE = (4, 3, 3)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def plane(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """(n, c, h, w) data in a plane off the origin, and its two axes as rows."""
    axes = torch.linalg.qr(torch.randn(36, 2, generator=seeded()))[0].T
    return (1.0 + torch.randn(n, 2, generator=seeded()) @ axes).view(n, *SHAPE), axes


def test_an_offset_is_the_part_of_an_error_across_the_data():
    data, axes = plane(500)
    drift = Drift(data, 6)
    assert drift.axes.shape == (2, 36)
    error = torch.randn(6, 36, generator=seeded())
    drift.carry(error.view(6, *SHAPE), torch.ones(6, dtype=torch.bool))
    offsets = drift.offsets.flatten(1)
    assert (offsets @ axes.T).abs().max() < 1e-5
    assert torch.allclose(error - offsets, (error @ axes.T) @ axes, atol=1e-5)


def test_the_axes_hold_the_stated_share_of_the_variance_and_no_axis_more_than_needed():
    latents = torch.randn(4000, *SHAPE, generator=seeded()) * torch.linspace(0.1, 2, 36).view(SHAPE)
    centred = (latents - latents.mean(0)).flatten(1)
    axes = Drift(latents, 1).axes
    share = [(centred @ part.T).square().sum() / centred.square().sum() for part in (axes, axes[:-1])]
    assert share[1] < ALONG <= share[0] + 1e-5


def test_few_slots_begin_anew_and_the_others_stay():
    drift = Drift(plane(100)[0], 20_000)
    drift.offsets.fill_(1.0)
    begun = drift.begin(seeded())
    assert (begun == drift.offsets[:, None]).all()
    fresh = (begun == 0).flatten(1).all(dim=1)
    assert fresh.float().mean().item() == pytest.approx(FRESH, rel=0.25)
    assert (begun[~fresh] == 1).all()


def test_chains_end_at_the_fixed_point_of_a_network_that_is_off_by_the_same_at_every_step():
    data, axes = plane(200)
    drift = Drift(data, 400)
    bias = torch.randn(36, generator=seeded())
    bias -= (bias @ axes.T) @ axes  # where the network goes wrong: across the data
    for step in range(300):
        seen = drift.begin(torch.Generator().manual_seed(step))[:, 0].flatten(1)
        along = torch.randn(400, 2, generator=seeded()) @ axes  # errors of the state do not add up
        drift.carry((0.9 * seen + bias + along).view(-1, *SHAPE), torch.ones(400, dtype=torch.bool))
    # A chain of age t is at (1 - 0.9^t) / (1 - 0.9) times the bias; ages are geometric with rate FRESH.
    expected = 10 * (1 - 0.9 * FRESH / (1 - 0.9 * (1 - FRESH)))
    found = (drift.offsets.flatten(1) @ bias).mean() / bias.square().sum()
    assert found.item() == pytest.approx(expected, rel=0.05)


def test_data_that_stand_still_and_a_resumed_chain():
    still = Drift(torch.zeros(50, *SHAPE), 3)
    still.carry(torch.ones(3, *SHAPE), torch.ones(3, dtype=torch.bool))
    assert still.offsets.isfinite().all()
    data, _ = plane(100)
    first, second = Drift(data, 4), Drift(data, 4)
    first.offsets.normal_(generator=seeded())
    second.load_state_dict(first.state_dict())
    assert torch.equal(first.begin(seeded()), second.begin(seeded()))
