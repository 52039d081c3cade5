"""Optical flow of real frames, and errors that flicker against it.

The flow is that of Lucas and Kanade (1981), from coarse to fine: at each pixel the shift that explains the change of
brightness around it best, in the sense of least squares. Axis letters: n pair of frames.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

SCALES, ROUNDS, WINDOW = 3, 3, 5
REGULAR = 1e-4
"""Added to the squared gradients: where there is nothing to be seen, nothing moves."""


def warp(frames: Tensor, flow: Tensor) -> Tensor:
    """(n, c, h, w) looked up at each pixel plus ``flow`` (n, 2, h, w), x before y, in pixels; edges go on outwards."""
    h, w = frames.shape[2:]
    y, x = torch.meshgrid(
        torch.arange(h, device=flow.device, dtype=flow.dtype),
        torch.arange(w, device=flow.device, dtype=flow.dtype),
        indexing="ij",
    )
    grid = torch.stack([(x + flow[:, 0]) * 2 / max(w - 1, 1) - 1, (y + flow[:, 1]) * 2 / max(h - 1, 1) - 1], dim=-1)
    return F.grid_sample(frames, grid, mode="bilinear", padding_mode="border", align_corners=True)


@torch.no_grad()
def optical_flow(before: Tensor, after: Tensor) -> Tensor:
    """(n, 2, h, w): where in ``before`` each pixel of ``after`` was, as a shift in pixels, x before y.

    Args:
        before, after: (n, c, h, w) in [-1, 1].
    """
    pyramid = [(before.mean(1, keepdim=True), after.mean(1, keepdim=True))]
    while len(pyramid) < SCALES and min(pyramid[-1][0].shape[2:]) >= 2 * WINDOW:
        pyramid.append((F.avg_pool2d(pyramid[-1][0], 2), F.avg_pool2d(pyramid[-1][1], 2)))
    flow = torch.zeros_like(pyramid[-1][0]).expand(-1, 2, -1, -1)
    for first, second in reversed(pyramid):
        if flow.shape[2:] != first.shape[2:]:
            flow = 2 * F.interpolate(flow, size=first.shape[2:], mode="bilinear", align_corners=False)
        for _ in range(ROUNDS):
            flow = flow + _shift(warp(first, flow), second)
    return flow


def _shift(first: Tensor, second: Tensor) -> Tensor:
    """One step of least squares: the shift that takes ``second`` to ``first``, at most one pixel."""
    padded = F.pad((first + second) / 2, (1,) * 4, mode="replicate")
    dx = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    dy = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    change = second - first
    xx, xy, yy, xt, yt = (_around(product) for product in (dx * dx, dx * dy, dy * dy, dx * change, dy * change))
    xx, yy = xx + REGULAR, yy + REGULAR
    determinant = xx * yy - xy * xy
    shift = torch.cat([(yy * xt - xy * yt), (xx * yt - xy * xt)], dim=1) / determinant
    return shift.clamp(-1, 1)


def _around(x: Tensor) -> Tensor:
    """The mean around each pixel, nearer ones counting more.

    A window that counts all alike turns the sign of fine waves: each round would then make an error in them greater.
    """
    for _ in range(2):
        x = F.avg_pool2d(x, WINDOW, 1, WINDOW // 2)
    return x


def flicker(decoded: Tensor, real: Tensor) -> Tensor:
    """Mean difference between the error at a pixel and that where its content was one frame before.

    A picture that is wrong alike in every frame does not flicker. This is the difference of the two videos' warp errors
    under the flow of the real one.

    Args:
        decoded, real: (b, 3, t, h, w) in [-1, 1]; t is at least 2.
    """
    before, after = (part.transpose(1, 2).flatten(0, 1) for part in (real[:, :, :-1], real[:, :, 1:]))
    error = (decoded - real).transpose(1, 2)
    return (error[:, 1:].flatten(0, 1) - warp(error[:, :-1].flatten(0, 1), optical_flow(before, after))).abs().mean()
