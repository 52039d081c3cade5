import math

import pytest
import torch

from procosm.world_model.tokenizer.flow import flicker, optical_flow, warp


def waves(shift_x: float = 0.0, shift_y: float = 0.0, side: int = 48) -> torch.Tensor:
    """(1, 3, side, side): a smooth picture whose content is moved by so many pixels."""
    y, x = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    x, y = x - shift_x, y - shift_y
    picture = sum((2 * math.pi * (a * x + b * y) / side + a).cos() for a, b in ((3, 1), (1, -4), (5, 2), (0, 3)))
    return (picture / 4).expand(1, 3, -1, -1)


@pytest.mark.parametrize("shift", [(1.0, 0.0), (0.0, -1.5), (2.5, 1.0), (-3.0, 2.0)])
def test_the_flow_of_a_moved_picture_is_its_motion(shift):
    before, after = waves(), waves(*shift)
    flow = optical_flow(before, after)
    inside = slice(8, -8)
    expected = -torch.tensor(shift)  # where each pixel was
    torch.testing.assert_close(flow[0, :, inside, inside].mean((1, 2)), expected, atol=0.05, rtol=0)
    left, change = warp(before, flow) - after, before - after
    assert left[..., inside, inside].abs().mean() < 0.05 * change[..., inside, inside].abs().mean()


def test_nothing_moves_where_nothing_is_to_be_seen():
    assert optical_flow(torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)).abs().max() == 0


def test_warping_by_whole_pixels_is_indexing():
    picture, flow = torch.randn(1, 2, 6, 7), torch.zeros(1, 2, 6, 7)
    flow[:, 0], flow[:, 1] = 2, -1
    expected = picture[:, :, (torch.arange(6) - 1).clamp(0)][..., (torch.arange(7) + 2).clamp(max=6)]
    torch.testing.assert_close(warp(picture, flow), expected, atol=1e-5, rtol=0)


def test_errors_that_stay_do_not_flicker_and_those_that_come_and_go_do():
    still = waves()[:, :, None].expand(-1, -1, 4, -1, -1)
    error = 0.2 * torch.randn(1, 3, 1, 48, 48, generator=torch.Generator().manual_seed(0))
    sign = torch.tensor([1.0, -1.0, 1.0, -1.0]).view(1, 1, 4, 1, 1)
    assert flicker(still + error, still) < 1e-4
    torch.testing.assert_close(flicker(still + error * sign, still), 2 * error.abs().mean(), rtol=1e-3, atol=0)


def test_errors_that_move_with_the_picture_flicker_less_than_those_that_stay_behind():
    real = torch.stack([waves(2.0 * t) for t in range(4)], dim=2)
    moving = real + 0.3 * torch.stack([waves(2.0 * t, 7.0) for t in range(4)], dim=2)
    staying = real + 0.3 * waves(0.0, 7.0)[:, :, None]
    assert flicker(moving, real) < 0.3 * flicker(staying, real)
