"""Every operation in NumPy, slow and obvious. It defines the meaning; cpu.py and kernels/ give the same results.

Letters: T tokens · o, i width out and in · b block side · c slots · n live blocks · m probed blocks. Index arrays are
those of matrix.Layout. Results have the precision of the operands: pass float64 to get the truth.
"""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
Index = NDArray[np.int32]

BINS = 4096


def forward(x: Array, values: Array, cols: Index, row_ptr: Index, bias: Array | None = None) -> Array:
    """y (T, o) = x (T, i) Wᵀ + bias (o,), W given by its block rows."""
    b = values.shape[-1]
    y = np.zeros((len(x), (len(row_ptr) - 1) * b), x.dtype)
    for row in range(len(row_ptr) - 1):
        for slot in range(row_ptr[row], row_ptr[row + 1]):
            col = cols[slot]
            y[:, row * b : (row + 1) * b] += x[:, col * b : (col + 1) * b] @ values[slot].T
    return y if bias is None else y + bias


def data_gradient(grad: Array, values: Array, rows: Index, perm: Index, col_ptr: Index) -> Array:
    """dx (T, i) = grad (T, o) W, W given by its block columns."""
    b = values.shape[-1]
    dx = np.zeros((len(grad), (len(col_ptr) - 1) * b), grad.dtype)
    for col in range(len(col_ptr) - 1):
        for slot in perm[col_ptr[col] : col_ptr[col + 1]]:
            row = rows[slot]
            dx[:, col * b : (col + 1) * b] += grad[:, row * b : (row + 1) * b] @ values[slot]
    return dx


def weight_gradient(grad: Array, x: Array, rows: Index, cols: Index, row_ptr: Index) -> Array:
    """dV (c, b, b) = (gradᵀ x) at the live blocks, zero in the padding; grad (T, o), x (T, i)."""
    b = grad.shape[1] // (len(row_ptr) - 1)
    dv = np.zeros((len(rows), b, b), x.dtype)
    for slot in range(row_ptr[-1]):
        row, col = rows[slot], cols[slot]
        dv[slot] = grad[:, row * b : (row + 1) * b].T @ x[:, col * b : (col + 1) * b]
    return dv


def shares(row_ptr: Index, together: int, stages: int, ctas: int) -> list[list[tuple[int, int, list[int]]]]:
    """Who computes a weight gradient on Hopper: by block row its groups (first slot, length, the CTA of each stage).

    A row is cut into the fewest groups of at most ``together`` slots, as equal as can be. A stage of k slots costs
    1 + k, groups and stages follow one another, and each CTA takes the stages that begin in its part of the whole.
    """
    cut = []
    for start, end in pairwise(row_ptr.tolist()):
        count = -(-(end - start) // together)
        edges = [start + (end - start) * j // count for j in range(count)] + [end]
        cut.append([(a, b - a) for a, b in pairwise(edges)] if count else [])
    total = sum(1 + length for row in cut for _, length in row) * stages
    done = 0
    found: list[list[tuple[int, int, list[int]]]] = []
    for row in cut:
        found.append([])
        for first, length in row:
            found[-1].append((first, length, [(done + s * (1 + length)) * ctas // total for s in range(stages)]))
            done += stages * (1 + length)
    return found


def sum_shares(
    partial: Array, dv: Array, row_ptr: Index, tokens: int, per_chunk: int, together: int, ctas: int
) -> None:
    """Complete dv (c, b, b) in place: a group of slots that one CTA does over all tokens is there already, any other is
    the sum of what its CTAs left in partial (chunks, together CTAs + c, b, b) for each chunk of stages. Zero padding.
    """
    dv[row_ptr[-1] :] = 0
    stages = -(-tokens // 64)
    chunks = [shares(row_ptr, together, min(per_chunk, stages - s), ctas) for s in range(0, stages, per_chunk)]
    for row in range(len(row_ptr) - 1):
        for group, (first, length, owners) in enumerate(chunks[0][row]):
            if len(chunks) == 1 and len(set(owners)) == 1:
                continue
            places = [
                (k, together * c + first) for k, cut in enumerate(chunks) for c in sorted(set(cut[row][group][2]))
            ]
            dv[first : first + length] = sum(partial[k, place : place + length] for k, place in places)


def block_norms(grad: Array, x: Array, rows: Index, cols: Index, block: int) -> Array:
    """(m,) Frobenius norms of (gradᵀ x) at the blocks (rows[k], cols[k]), in any order; grad (T, o), x (T, i)."""
    b = block
    norms = np.zeros(len(rows), x.dtype)
    for k, (row, col) in enumerate(zip(rows, cols, strict=True)):
        norms[k] = np.linalg.norm(grad[:, row * b : (row + 1) * b].T @ x[:, col * b : (col + 1) * b])
    return norms


def log_histogram(scores: NDArray[np.float32]) -> NDArray[np.int32]:
    """(4096,) counts of non-negative float32 scores, 16 bins an octave: exponent and top four mantissa bits."""
    return np.bincount(scores.reshape(-1).view(np.uint32) >> 19, minlength=BINS).astype(np.int32)


def adam(
    values: Array, grad: Array, m: Array, v: Array, row_ptr: Index,
    lr: float, beta1: float, beta2: float, eps: float, weight_decay: float, step: int,
) -> None:  # fmt: skip
    """AdamW (arXiv 1711.05101, algorithm 2) in place on the live blocks of values, m and v (c, b, b); step from 1."""
    n = row_ptr[-1]
    m[:n] = beta1 * m[:n] + (1 - beta1) * grad[:n]
    v[:n] = beta2 * v[:n] + (1 - beta2) * grad[:n] ** 2
    m_hat, v_hat = m[:n] / (1 - beta1**step), v[:n] / (1 - beta2**step)
    values[:n] -= lr * (weight_decay * values[:n] + m_hat / (np.sqrt(v_hat) + eps))


def sgd(
    values: Array, grad: Array, velocity: Array, row_ptr: Index, lr: float, momentum: float, weight_decay: float
) -> None:
    """SGD with momentum and L2 decay as torch.optim.SGD (velocity zero at first), in place on the live blocks."""
    n = row_ptr[-1]
    velocity[:n] = momentum * velocity[:n] + grad[:n] + weight_decay * values[:n]
    values[:n] -= lr * velocity[:n]
