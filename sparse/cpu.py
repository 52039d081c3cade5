"""The operations of reference.py on CPU tensors, as few and as large GEMM calls as the pattern allows.

Measured (Zen 5, one core, 90 % sparse): the token-major layout every torch layer already has beats feature-major
copies, because MKL reads a strided slice x[:, block] without a copy and transposing x costs as much as the product.
- float32: one ``addmm_`` a block, straight on strided slices of x and y; tokens in chunks so that both stay in cache.
- bfloat16 and float16: a block row's inputs are gathered and multiplied at once, because adding block by block would
  round the sum to 16 bits after every block, and oneDNN's cost of a call is tens of microseconds.
- Threads share out the block rows, once a product (``threads``), instead of meeting inside every small GEMM. So the
  result has the same bits with any number of threads.
"""

from itertools import pairwise

import torch
from torch import Tensor
from torch.optim.adamw import adamw

from procosm.sparse.threads import spread

BINS = 4096
HALVES = (torch.bfloat16, torch.float16)
TILE = 32
"""Numbers of 16 bits in a row of an AMX tile."""
CHUNK_TOKENS = 1024
GATHER_TOKENS = 16384


def forward(x: Tensor, values: Tensor, cols: Tensor, row_ptr: Tensor, bias: Tensor | None = None) -> Tensor:
    """y (T, o) = x (T, i) Wᵀ + bias."""
    return _product(x, values.transpose(1, 2), row_ptr.tolist(), cols, bias)


def data_gradient(grad: Tensor, values: Tensor, rows: Tensor, perm: Tensor, col_ptr: Tensor) -> Tensor:
    """dx (T, i) = grad (T, o) W."""
    return _product(grad, values.index_select(0, perm), col_ptr.tolist(), rows.index_select(0, perm), None)


def weight_gradient(grad: Tensor, x: Tensor, rows: Tensor, cols: Tensor, row_ptr: Tensor) -> Tensor:
    """dV (c, b, b) = (gradᵀ x) at the live blocks, zero in the padding."""
    starts = row_ptr.tolist()
    n, b = starts[-1], grad.shape[1] // (len(starts) - 1)
    dv = x.new_empty(rows.numel(), b, b)
    dv[n:].zero_()
    if x.dtype in HALVES and x.shape[1] < grad.shape[1]:
        _by_columns(dv[:n], grad, x, rows[:n], cols[:n])
        return dv
    tiles, names = x.unflatten(1, (-1, b)), cols.tolist()  # (T, Gn, b)

    def rows_of(first: int, last: int) -> None:
        for row in range(first, last):
            start, end = starts[row], starts[row + 1]
            if start == end:
                continue
            across = grad[:, row * b : (row + 1) * b]
            if x.dtype in HALVES:
                blocks = across.t() @ _beside(x, b, cols[start:end], names[start:end])
                dv[start:end] = blocks.view(b, -1, b).transpose(0, 1)
            else:
                blocks = _gathered(tiles, cols[start:end]).t() @ across  # (k b, b) transposed
                dv[start:end] = blocks.view(-1, b, b).transpose(1, 2)

    spread(rows_of, starts, 2.0 * x.shape[0] * b * b)
    return dv


def _by_columns(dv: Tensor, grad: Tensor, x: Tensor, rows: Tensor, cols: Tensor) -> None:
    """The blocks of a column at once: where there are fewer columns than rows, fewer and larger products."""
    b = dv.shape[-1]
    slots = torch.argsort(cols, stable=True)
    starts = [0, *torch.bincount(cols, minlength=x.shape[1] // b).cumsum(0).tolist()]
    blocks = rows.index_select(0, slots)
    names = blocks.tolist()

    def cols_of(first: int, last: int) -> None:
        for col in range(first, last):
            start, end = starts[col], starts[col + 1]
            if start < end:
                beside = _beside(grad, b, blocks[start:end], names[start:end])
                dv[slots[start:end]] = (beside.t() @ x[:, col * b : (col + 1) * b]).view(-1, b, b)

    spread(cols_of, starts, 2.0 * x.shape[0] * b * b)


def block_norms(grad: Tensor, x: Tensor, rows: Tensor, cols: Tensor, block: int) -> Tensor:
    """float32 (m,) Frobenius norms of (gradᵀ x) at the blocks (rows[k], cols[k]); no more than one block row exists."""
    tiles = x.unflatten(1, (-1, block))
    norms = torch.empty(rows.numel(), dtype=torch.promote_types(x.dtype, torch.float32))
    order = torch.argsort(rows, stable=True)
    lines, counts = torch.unique_consecutive(rows[order], return_counts=True)
    slots = order.split(counts.tolist())

    def rows_of(first: int, last: int) -> None:
        for row, at in zip(lines[first:last].tolist(), slots[first:last], strict=True):
            blocks = _gathered(tiles, cols[at]).t() @ grad[:, row * block : (row + 1) * block]
            norms[at] = blocks.view(-1, block * block).to(norms.dtype).norm(dim=1)

    spread(rows_of, [0, *counts.cumsum(0).tolist()], 2.0 * x.shape[0] * block * block)
    return norms


def log_histogram(scores: Tensor) -> Tensor:
    """int32 (4096,) counts of non-negative float32 scores, 16 bins an octave; -0.0 counts as 0."""
    return torch.bincount(scores.abs().reshape(-1).view(torch.int32) >> 19, minlength=BINS).to(torch.int32)


def adam(
    values: Tensor, grad: Tensor, m: Tensor, v: Tensor, row_ptr: Tensor,
    lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, step: int | Tensor,
) -> None:  # fmt: skip
    """AdamW in place on the live blocks; step counts from 1."""
    n = int(row_ptr[-1])
    before = torch.tensor(float(step) - 1.0, dtype=torch.float32, device=values.device)  # the function counts on
    adamw(
        [values[:n]], [grad[:n]], [m[:n]], [v[:n]], [], [before], fused=True, amsgrad=False, maximize=False,
        lr=lr, beta1=beta1, beta2=beta2, weight_decay=weight_decay, eps=eps,
    )  # fmt: skip


def sgd(
    values: Tensor, grad: Tensor, velocity: Tensor, row_ptr: Tensor, lr: float, momentum: float, weight_decay: float
) -> None:
    """SGD with momentum and L2 decay in place on the live blocks."""
    n = int(row_ptr[-1])
    velocity[:n].mul_(momentum).add_(grad[:n]).add_(values[:n], alpha=weight_decay)
    values[:n].sub_(velocity[:n], alpha=lr)


def _gathered(tiles: Tensor, blocks: Tensor) -> Tensor:
    """(T, k b): the named blocks of (T, G, b), side by side; the tensor itself when all are named in order."""
    if blocks.numel() == tiles.shape[1] and torch.equal(blocks, torch.arange(len(blocks), dtype=blocks.dtype)):
        return tiles.flatten(1)
    return tiles.index_select(1, blocks).flatten(1)


def _beside(a: Tensor, b: int, blocks: Tensor, names: list[int]) -> Tensor:
    """(T, k b): the blocks of (T, G b) named twice, as a tensor and as numbers, side by side; a view of those that are.

    Products of 16 bits take a strided view as fast as what was copied for them; those of float32 do not. With AMX they
    read whole tiles, and what lies beside a narrower view: a NaN there would be one in the result.
    """
    first, after = names[0], names[0] + len(names)
    if len(names) * b % TILE == 0 and names == list(range(first, after)):
        return a[:, first * b : after * b]
    return a.unflatten(1, (-1, b)).index_select(1, blocks).flatten(1)


def _product(a: Tensor, v: Tensor, starts: list[int], blocks: Tensor, bias: Tensor | None) -> Tensor:
    """(T, G b): line g is the sum over k in starts[g]..starts[g + 1] of a[:, blocks[k]] @ v[k], plus bias."""
    b = v.shape[-1]
    out = a.new_empty(a.shape[0], (len(starts) - 1) * b)
    line = _gather_line if a.dtype in HALVES else _add_line
    chunk = GATHER_TOKENS if line is _gather_line else CHUNK_TOKENS
    names = blocks.tolist()

    def lines_of(first: int, last: int) -> None:
        for t in range(0, a.shape[0], chunk):
            for g, (start, end) in enumerate(pairwise(starts[first : last + 1]), first):
                across = slice(g * b, (g + 1) * b)
                part = None if bias is None else bias[across]
                to = out[t : t + chunk, across]
                line(to, a[t : t + chunk], v[start:end], blocks[start:end], names[start:end], part)

    spread(lines_of, starts, 2.0 * a.shape[0] * b * b)
    return out


def _add_line(out: Tensor, a: Tensor, v: Tensor, blocks: Tensor, names: list[int], bias: Tensor | None) -> None:
    b, fresh = v.shape[-1], bias is None
    if bias is not None:
        out.copy_(bias)
    elif not names:
        out.zero_()
    for k, block in enumerate(names):
        out.addmm_(a[:, block * b : (block + 1) * b], v[k], beta=0 if fresh and k == 0 else 1)  # 0: out is not read


def _gather_line(out: Tensor, a: Tensor, v: Tensor, blocks: Tensor, names: list[int], bias: Tensor | None) -> None:
    if not names:
        out.zero_() if bias is None else out.copy_(bias)
        return
    beside = _beside(a, v.shape[-1], blocks, names)
    weights = v[0] if len(names) == 1 else v.reshape(-1, v.shape[-1])
    torch.mm(beside, weights, out=out) if bias is None else torch.addmm(bias, beside, weights, out=out)
