"""The block-sparse format: a weight (out, in) as plain tensors, with room to spare and no torch sparse layout.

Letters: Gm, Gn rows and columns of the grid of blocks · b block side · n live blocks · c capacity, the slots there are.

The first n slots hold the live blocks in row-major order. The other c - n are padding: zero values that point at
block (0, 0), never counted in ``row_ptr`` or ``col_ptr``. Fixed capacity keeps every tensor's shape when the pattern
changes, so a captured graph or a compiled step survives it, and n is read on the device as ``row_ptr[-1]``.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from procosm.sparse.errors import SparseError

BLOCKS = (16, 32, 64, 128)


@dataclass(frozen=True)
class Layout:
    """Where the blocks lie: both orders of one pattern.

    Attributes:
        rows, cols: int32 (c,), the grid position of each slot; row-major over the live slots, 0 in the padding.
        row_ptr: int32 (Gm + 1,); slots row_ptr[i] to row_ptr[i + 1] hold block row i. row_ptr[-1] is n.
        perm: int32 (c,); slots perm[col_ptr[j]] to perm[col_ptr[j + 1]] hold block column j; padding maps to itself.
        col_ptr: int32 (Gn + 1,).
    """

    rows: Tensor
    cols: Tensor
    row_ptr: Tensor
    perm: Tensor
    col_ptr: Tensor


@dataclass(frozen=True)
class BlockSparse(Layout):
    """A block-sparse matrix; see Layout for the five index tensors.

    Attributes:
        values: (c, b, b), any floating dtype; zero in the padding.
        shape: (out, in) of the dense matrix, both multiples of b.
    """

    values: Tensor
    shape: tuple[int, int]

    @property
    def block(self) -> int:
        """Side b of a block."""
        return self.values.shape[-1]

    @property
    def capacity(self) -> int:
        """Slots there are, live or not."""
        return self.values.shape[0]

    @property
    def grid(self) -> tuple[int, int]:
        """(Gm, Gn), blocks down and across."""
        return self.shape[0] // self.block, self.shape[1] // self.block

    @property
    def n(self) -> int:
        """Live blocks."""
        return int(self.row_ptr[-1])  # synchronize!

    @property
    def density(self) -> float:
        """Share of the grid that is live."""
        gm, gn = self.grid
        return self.n / (gm * gn)


def grid_of(shape: tuple[int, int], block: int) -> tuple[int, int]:
    """(Gm, Gn) of a dense shape, or an error that names the block sizes that fit."""
    if block not in BLOCKS:
        raise SparseError(f"block size {block} is not supported; choose one of {BLOCKS}")
    if shape[0] <= 0 or shape[1] <= 0 or shape[0] % block or shape[1] % block:
        fits = [b for b in BLOCKS if shape[0] % b == 0 and shape[1] % b == 0]
        remedy = f"use block={fits[-1]}" if fits else "pad the layer to a multiple of 16 or leave it dense"
        raise SparseError(f"a {shape[0]} x {shape[1]} weight does not divide into {block} x {block} blocks: {remedy}")
    return shape[0] // block, shape[1] // block


def padded_shape(shape: tuple[int, int], block: int) -> tuple[int, int]:
    """The shape with both sides rounded up to whole blocks.

    Raises:
        SparseError: an unknown block, or a side that is shorter than one: most of that would be padding.
    """
    if block not in BLOCKS or min(shape) < block:
        grid_of(shape, block)
    return -(-shape[0] // block) * block, -(-shape[1] // block) * block


def layout(kept: Tensor, capacity: int) -> Layout:
    """Both index orders of a pattern, without a host synchronisation.

    Args:
        kept: bool (Gm, Gn). More than ``capacity`` true entries is the caller's error: the surplus would be lost.
        capacity: slots, at most Gm * Gn.
    """
    gm, gn = kept.shape
    flat = kept.reshape(-1)
    order = torch.argsort((~flat).to(torch.uint8), stable=True)[:capacity]  # live positions first, row-major
    live = flat[order]
    rows = torch.where(live, order // gn, 0).to(torch.int32)
    cols = torch.where(live, order % gn, 0).to(torch.int32)
    column_major = torch.where(live, (order % gn) * gm + order // gn, gm * gn)
    perm = torch.argsort(column_major, stable=True).to(torch.int32)
    return Layout(rows, cols, _pointers(kept.sum(1)), perm, _pointers(kept.sum(0)))


def live(index: Layout) -> Tensor:
    """bool (c,): which slots hold a block."""
    return torch.arange(index.rows.numel(), device=index.rows.device) < index.row_ptr[-1]


def kept_of(index: Layout) -> Tensor:
    """bool (Gm, Gn): which blocks of the grid are live. No host synchronisation."""
    gm, gn = index.row_ptr.numel() - 1, index.col_ptr.numel() - 1
    count = torch.zeros(gm * gn, dtype=torch.int32, device=index.rows.device)
    count.index_add_(0, index.rows * gn + index.cols, live(index).to(torch.int32))
    return (count > 0).view(gm, gn)


def sources(old: Layout, new: Layout) -> Tensor:
    """int64 (c of new,): for each slot of ``new`` the slot of ``old`` that held the same block, -1 for a fresh one.

    What was stored per slot moves with ``carry(stored, sources)``. Padding slots are -1. No host synchronisation.
    """
    gm, gn = new.row_ptr.numel() - 1, new.col_ptr.numel() - 1
    device = new.rows.device
    nowhere = gm * gn  # one cell past the grid takes the padding
    slot_of = torch.full((gm * gn + 1,), -1, dtype=torch.int64, device=device)
    place = torch.where(live(old), old.rows.long() * gn + old.cols, nowhere)
    slot_of.index_copy_(0, place, torch.where(live(old), torch.arange(place.numel(), device=device), -1))
    slot_of[nowhere] = -1
    return slot_of[torch.where(live(new), new.rows.long() * gn + new.cols, nowhere)]


def carry(stored: Tensor, source: Tensor) -> Tensor:
    """Per-slot data (c, ...) moved to the slots ``sources`` names; zero where the slot is fresh or padding."""
    if stored.shape[0] == 0:
        return stored.new_zeros((source.numel(), *stored.shape[1:]))
    moved = stored.index_select(0, source.clamp(min=0))
    return moved.mul_((source >= 0).to(moved.dtype).view(-1, *[1] * (stored.ndim - 1)))


def from_dense(weight: Tensor, kept: Tensor, block: int, capacity: int | None = None) -> BlockSparse:
    """The blocks of ``weight`` (out, in) that ``kept`` bool (Gm, Gn) names, with ``capacity`` slots (default: n).

    Raises:
        SparseError: the weight does not divide into blocks, the mask has another shape, or capacity is too small.
    """
    gm, gn = grid_of((weight.shape[0], weight.shape[1]), block)
    if kept.dtype != torch.bool or tuple(kept.shape) != (gm, gn):
        raise SparseError(f"kept must be bool ({gm}, {gn}), one entry a block; got {kept.dtype} {tuple(kept.shape)}")
    n = int(kept.sum())  # synchronize!
    capacity = n if capacity is None else capacity
    if not n <= capacity <= gm * gn:
        raise SparseError(f"capacity {capacity} does not hold {n} kept blocks of {gm * gn}: choose {n} to {gm * gn}")
    index = layout(kept, capacity)
    tiles = weight.reshape(gm, block, gn, block).transpose(1, 2)  # (Gm, Gn, b, b)
    values = tiles[index.rows.long(), index.cols.long()] * live(index).view(-1, 1, 1)
    return BlockSparse(**vars(index), values=values, shape=(weight.shape[0], weight.shape[1]))


def to_dense(matrix: BlockSparse) -> Tensor:
    """The dense (out, in) matrix, zero outside the live blocks."""
    (gm, gn), b = matrix.grid, matrix.block
    tiles = matrix.values.new_zeros(gm * gn, b, b)
    place = matrix.rows.long() * gn + matrix.cols
    tiles.index_add_(0, place, matrix.values * live(matrix).view(-1, 1, 1))
    return tiles.view(gm, gn, b, b).transpose(1, 2).reshape(matrix.shape)


def random(
    shape: tuple[int, int],
    block: int,
    density: float,
    generator: torch.Generator | None = None,
    capacity: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> BlockSparse:
    """round(density * Gm * Gn) standard normal blocks at uniformly random places, reproducible from ``generator``.

    Raises:
        SparseError: density outside [0, 1] or a shape that does not divide into blocks.
    """
    kept = random_kept(shape, block, density, generator)
    weight = torch.randn(shape, generator=generator).to(dtype)
    return from_dense(weight, kept, block, capacity)


def random_kept(shape: tuple[int, int], block: int, density: float, generator: torch.Generator | None = None) -> Tensor:
    """bool (Gm, Gn) with exactly round(density * Gm * Gn) true entries at uniformly random places."""
    gm, gn = grid_of(shape, block)
    if not 0.0 <= density <= 1.0:
        raise SparseError(f"density {density} is outside [0, 1]: it is the share of blocks to keep")
    device = "cpu" if generator is None else generator.device  # the default device may be meta
    kept = torch.zeros(gm * gn, dtype=torch.bool, device=device)
    kept[torch.randperm(gm * gn, generator=generator, device=device)[: round(density * gm * gn)]] = True
    return kept.view(gm, gn)


def balanced_kept(
    shape: tuple[int, int], block: int, density: float, generator: torch.Generator | None = None
) -> Tensor:
    """bool (Gm, Gn) with max(1, round(density * Gm * Gn)) true entries, as many in each row as in any other and in each
    column, to within one.

    Blocks thrown at random leave rows without inputs and columns nobody reads: at density .1, e^-0.8 = 45 % of a
    (128, 512) weight's columns in blocks of 16. Which block meets which is random. Lines that must stay empty are the
    last ones, so that what one layer does not give is what the next does not read.
    """
    gm, gn = grid_of(shape, block)
    if not 0.0 <= density <= 1.0:
        raise SparseError(f"density {density} is outside [0, 1]: it is the share of blocks to keep")
    n = max(1, round(density * gm * gn))
    # Walking the grid diagonally meets lcm(Gm, Gn) different blocks before it repeats; then it moves one column on.
    walk = torch.arange(n, device="cpu")
    rows, cols = walk % gm, (walk + walk // math.lcm(gm, gn)) % gn
    kept = torch.zeros(gm, gn, dtype=torch.bool, device="cpu")
    kept[_shuffled(gm, n, generator)[rows], _shuffled(gn, n, generator)[cols]] = True
    return kept


def validate(matrix: BlockSparse) -> None:
    """Check every invariant of the format; raises SparseError that names the broken one. Reads back from the device."""
    gm, gn = grid_of(matrix.shape, matrix.block)
    c = matrix.capacity
    wanted = {"rows": (c,), "cols": (c,), "perm": (c,), "row_ptr": (gm + 1,), "col_ptr": (gn + 1,)}
    for name, shape in wanted.items():
        tensor = getattr(matrix, name)
        if tensor.dtype != torch.int32 or tuple(tensor.shape) != shape:
            raise SparseError(f"{name} must be int32 {shape}; got {tensor.dtype} {tuple(tensor.shape)}")
        if tensor.device != matrix.values.device:
            raise SparseError(f"{name} is on {tensor.device}, values on {matrix.values.device}: move them together")
    if tuple(matrix.values.shape) != (c, matrix.block, matrix.block) or not matrix.values.is_contiguous():
        raise SparseError("values must be contiguous (capacity, b, b): call .contiguous()")
    if not 0 <= matrix.n <= c <= gm * gn:
        raise SparseError(f"row_ptr counts {matrix.n} live blocks in {c} slots of a {gm} x {gn} grid")
    if matrix.values[matrix.n :].any():
        raise SparseError("padding slots must hold zeros")
    rebuilt = layout(kept_of(matrix), c)
    for name in wanted:
        if not torch.equal(getattr(rebuilt, name), getattr(matrix, name)):
            raise SparseError(f"{name} does not describe the pattern in row-major order without repeats: use layout()")


def _shuffled(lines: int, used: int, generator: torch.Generator | None) -> Tensor:
    """A permutation of range(lines) that moves only the first ``used``."""
    order = torch.arange(lines, device="cpu")
    device = "cpu" if generator is None else generator.device
    order[:used] = torch.randperm(min(lines, used), generator=generator, device=device)
    return order


def _pointers(counts: Tensor) -> Tensor:
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)]).to(torch.int32)
