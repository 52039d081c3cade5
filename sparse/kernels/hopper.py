"""When the kernels for sm_90a apply, and how their work is cut up: hopper.cuh and what includes it."""

import torch
from torch import Tensor

from procosm.sparse.kernels import launch
from procosm.sparse.kernels.operands import kind

THREADS = 384
MOST_LINES = 480
"""Rows (or columns) of blocks of a weight, at most, which the kernels are told: with the barriers, their order fits the
first KiB of shared memory."""
BOX = 64 * 128
STAGES = {64: 3, 128: 4}
"""Stages of the ring, by block: as many as fit."""
TOKENS = {64: 512, 128: 256}
"""Tokens of an item of a product."""
PIECE = {64: 16, 128: 64}
"""Tokens a warpgroup stores at a time."""
PIECES = 2
"""Stores a warpgroup may have under way."""
TOGETHER = {64: 8, 128: 2}
"""Blocks of one row whose gradients are computed together."""


def suits(x: Tensor, block: int, slots: int, lines: int = 0) -> bool:
    """Whether a product of ``x`` with this many blocks of this side, in so many rows (or columns), runs on wgmma."""
    narrow = x.dtype in (torch.float16, torch.bfloat16)
    return narrow and block in STAGES and lines <= MOST_LINES and len(x) * slots > 0 and launch.capability(x) == (9, 0)


def constants(x: Tensor, block: int) -> dict[str, int]:
    """What a kernel for products of ``x`` is compiled with."""
    return {"DTYPE": kind(x), "BLOCK": block, "STAGES": STAGES[block], "MOST_LINES": MOST_LINES}


def product_bytes(block: int) -> int:
    """Dynamic shared memory of hopper_product.cuh: ring, pieces, room to start at a multiple of 1024."""
    stage = block // 64 * BOX + TOKENS[block] * 128
    return STAGES[block] * stage + 2 * PIECES * PIECE[block] * 128 + 1024


def gradient_bytes(block: int) -> int:
    """Dynamic shared memory of hopper_gradient.cuh: ring, room to start at a multiple of 1024."""
    return STAGES[block] * block // 64 * BOX * (1 + TOGETHER[block]) + 1024


def places(tokens: int, lines: int, block: int, processors: int) -> int:
    """Items of a tile of tokens: a heavy and a light line each, or single lines where pairs would leave CTAs idle."""
    tiles = -(-tokens // TOKENS[block])
    paired = -(-lines // 2)
    return paired if tiles * paired >= 2 * processors else lines


def together(probed: int, block: int, processors: int) -> int:
    """Blocks of an item of hopper_block_norms: as many as are computed at once, unless processors would be idle."""
    return max(1, min(TOGETHER[block], probed // (2 * processors)))
