"""The chains of offsets: what they keep of an error, when they begin anew, that they find where a network drifts."""

import pytest
import torch

from procosm.world_model.diffusion.drift import FRESH, Drift, across

SHAPE = (4, 3, 3)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def windows(n: int, steps: int = 5) -> torch.Tensor:
    return torch.randn(n, steps, *SHAPE, generator=seeded())


def test_across_is_what_least_squares_leaves():
    latents, offsets = windows(6).double(), torch.randn(6, *SHAPE, generator=seeded(1)).double()
    left = across(offsets, latents)
    for window, offset, found in zip(latents, offsets, left, strict=True):
        motion = (window[1:] - window[:-1]).flatten(1).T
        share = torch.linalg.lstsq(motion, offset.flatten()[:, None]).solution
        assert torch.allclose(found.flatten(), offset.flatten() - (motion @ share)[:, 0], atol=1e-10)
    assert torch.allclose(across(left, latents), left, atol=1e-10)


def test_along_the_motion_nothing_is_drift_and_beside_what_stands_still_everything_is():
    latents = windows(3)
    assert across(latents[:, 3] - latents[:, 1], latents).abs().max() < 1e-5
    still, offsets = latents[:, :1].expand(-1, 5, *SHAPE), torch.randn(3, *SHAPE, generator=seeded(1))
    assert torch.equal(across(offsets, still), offsets)
    straight = latents[:, :1] + torch.arange(5).view(5, 1, 1, 1) * latents[:, 1:2]  # one direction, seen four times
    direction = latents[:, 1].flatten(1)
    direction = direction / direction.norm(dim=1, keepdim=True)
    expected = offsets.flatten(1) - (offsets.flatten(1) * direction).sum(1, keepdim=True) * direction
    assert torch.allclose(across(offsets, straight).flatten(1), expected, atol=1e-4)


def test_few_slots_begin_anew_and_the_others_stay():
    drift, still = Drift(20_000, SHAPE), torch.zeros(20_000, 2, *SHAPE)
    drift.offsets.fill_(1.0)
    begun = drift.begin(still, seeded())
    assert torch.equal(begun, drift.offsets[:, None])
    fresh = (begun == 0).flatten(1).all(dim=1)
    assert fresh.float().mean().item() == pytest.approx(FRESH, rel=0.25)
    assert (begun[~fresh] == 1).all()


def test_chains_end_at_the_fixed_point_of_a_network_that_is_off_by_the_same_at_every_step():
    slots, keeps = 400, 0.9
    moving = torch.zeros(slots, 3, *SHAPE)
    moving[:, 1, 0], moving[:, 2, 0] = torch.randn(2, slots, 3, 3, generator=seeded())
    bias = torch.randn(4, 9, generator=seeded(1))
    bias[0] = 0  # channel 0 moves, the others are off
    drift = Drift(slots, SHAPE)
    for step in range(300):
        seen = drift.begin(moving, seeded(step))[:, 0]
        along = torch.randn(slots, 2, 1, 1, 1, generator=seeded(step)) * (moving[:, 1:] - moving[:, :-1])
        drift.carry(keeps * seen + bias.view(SHAPE) + along.sum(1), moving, torch.ones(slots, dtype=torch.bool))
    # A chain of n steps is at bias (1 - keeps^n) / (1 - keeps); n is geometric, at least 1, with rate FRESH.
    expected = (1 - keeps * FRESH / (1 - keeps * (1 - FRESH))) / (1 - keeps)
    found = (drift.offsets.flatten(1) @ bias.flatten()).mean() / bias.square().sum()
    assert found.item() == pytest.approx(expected, rel=0.05)


def test_where_the_truth_ends_a_chain_waits_and_a_saved_chain_goes_on_alike():
    latents, drift, saved = windows(4), Drift(4, SHAPE), Drift(4, SHAPE)
    drift.offsets.normal_(generator=seeded())
    before = drift.offsets.clone()
    drift.carry(torch.ones(4, *SHAPE), latents, torch.tensor([True, False, True, False]))
    assert torch.equal(drift.offsets[1::2], before[1::2])
    assert not torch.equal(drift.offsets[::2], before[::2])
    saved.load_state_dict(drift.state_dict())
    assert torch.equal(drift.begin(latents, seeded()), saved.begin(latents, seeded()))
