"""Frames to latents, and latents to what a dynamics reads off them, many at a time."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from procosm.world_model.interface import Dynamics, Tokenizer
from procosm.world_model.threads import run_each

FRAMES = 256
"""Frames that are coded, or windows that are read, at once."""


@torch.no_grad()
def encode(
    tokenizer: Tokenizer, frames: Tensor, device: torch.device, coded: Callable[[int], object] | None = None
) -> Tensor:
    """(…, H, W, 3) uint8 frames, wherever they are, to (…, c, h, w) latents on the tokenizer's device.

    Each frame is coded as an image; on a CPU several threads share the work. ``coded`` is told of every so many frames
    that are done.
    """

    def encoded(part: Tensor) -> Tensor:
        z = tokenizer.encode(part[:, None].to(device))[:, 0]
        if coded:
            coded(len(part))
        return z

    tasks = [partial(encoded, part) for part in frames.flatten(0, -4).split(FRAMES)]
    latents = torch.cat(run_each(tasks) if device.type == "cpu" else [task() for task in tasks])
    return latents.unflatten(0, frames.shape[:-3])


@torch.no_grad()
def read_off(dynamics: Dynamics, name: str, latents: Tensor) -> Tensor:
    """(n, s), the state or features, by ``name``, that a dynamics reads off (n, t, c, h, w) latents of real frames.

    Part by part: what some dynamics remember of a dream is a thousand times as large as what they read.
    """
    return torch.cat([dynamics.read(dynamics.begin(part))[name] for part in latents.split(FRAMES)])
