"""What an operation must compute and move, and from that whether sparse or dense is faster.

Time of an operation = start + operations / (rate * efficiency of the block size) + bytes / bandwidth + calls *
overhead. Dense is the same formula with the efficiency of its least size, one call and no start.
``benchmarks/sparse/cpu.py`` measures how well it predicts.
"""

from dataclasses import dataclass

import torch

from procosm.sparse.machines import machine

OPERATIONS = ("forward", "data_gradient", "weight_gradient")
MANY_TOKENS = 1 << 30
CHUNK_TOKENS = 1024
LEAST_TOKENS = 256
"""Products of fewer were not measured: a dense one is not predicted to be any worse for them."""


@dataclass(frozen=True)
class Work:
    """What one operation costs before any machine is named."""

    flops: float
    """Multiplications and additions."""
    bytes: float
    """Operands read and results written once, in the operands' dtype."""


@dataclass(frozen=True)
class Choice:
    """Where sparse is expected to win for one weight.

    Attributes:
        least, most: sparse wins for least <= tokens < most.
        seconds_sparse, seconds_dense: predicted time of the three products per 1024 tokens.
        reason: one sentence for people.
    """

    least: int
    most: int
    seconds_sparse: float
    seconds_dense: float
    reason: str

    def sparse(self, tokens: int) -> bool:
        """Whether to take the sparse path for this many tokens."""
        return self.least <= tokens < self.most


def work(operation: str, tokens: int, shape: tuple[int, int], elements: int, itemsize: int) -> Work:
    """FLOPs and bytes of one product with ``elements`` stored weights of a (out, in) matrix.

    Dense: elements = out * in. Sparse: n * b * b. Every product reads or writes both activations and the weights once.
    """
    if operation not in OPERATIONS:
        raise KeyError(f"unknown operation {operation!r}: one of {OPERATIONS}")
    return Work(2.0 * tokens * elements, float(itemsize) * (tokens * (shape[0] + shape[1]) + elements))


def key(device: str, dtype: torch.dtype) -> tuple[str, int]:
    """Which of ``machines.KEYS`` a device type and dtype are; float64 counts as float32, other devices as the CPU."""
    return "cuda" if device == "cuda" else "cpu", min(dtype.itemsize, 4)


def seconds(
    operation: str, tokens: int, shape: tuple[int, int], block: int | None, n: int, device: str, itemsize: int
) -> float:
    """Predicted time of one product: sparse with n blocks of side ``block``, or dense when block is None."""
    m = machine(device, itemsize)
    elements = shape[0] * shape[1] if block is None else n * block * block
    w = work(operation, tokens, shape, elements, itemsize)
    if block is None:
        narrowest = min(max(tokens, LEAST_TOKENS), *shape)
        return w.flops * (1 + m.narrow / narrowest) / m.rate + w.bytes / m.bandwidth + m.call_s
    lines = shape[1] // block if operation == "data_gradient" else shape[0] // block
    per_block = m.per_block and operation != "weight_gradient"
    calls = n * max(1.0, tokens / CHUNK_TOKENS) if per_block else lines
    if device == "cuda":
        calls = 1
    # A gathered block row copies its inputs: the activations are read once per block of the row, not once.
    copied = 0 if device == "cuda" or per_block else 2 * itemsize * tokens * n * block
    arithmetic = w.flops / (m.rate * m.efficiency[block])
    return m.start_s + arithmetic + (w.bytes + copied) / m.bandwidth + calls * m.call_s


def step_seconds(tokens: int, shape: tuple[int, int], block: int | None, n: int, device: str, itemsize: int) -> float:
    """Predicted time of the three products of a training step; ``block`` and ``n`` as in :func:`seconds`."""
    return sum(seconds(op, tokens, shape, block, n, device, itemsize) for op in OPERATIONS)


def gain(shape: tuple[int, int], block: int, n: int, tokens: int, device: str, itemsize: int) -> float:
    """Predicted time of the three products dense over sparse."""
    return step_seconds(tokens, shape, None, n, device, itemsize) / step_seconds(
        tokens, shape, block, n, device, itemsize
    )


def choose(shape: tuple[int, int], block: int, n: int, device: str, itemsize: int) -> Choice:
    """For which token counts a training step (three products) is surely faster sparse: by the margin of the machine."""
    m = machine(device, itemsize)

    def total(tokens: int, side: int | None) -> float:
        return step_seconds(tokens, shape, side, n, device, itemsize)

    wins = [m.margin * total(1 << k, block) < total(1 << k, None) for k in range(21)]
    first = next((k for k, won in enumerate(wins) if won), None)
    last = max((k for k, won in enumerate(wins) if won), default=None)
    least = MANY_TOKENS if first is None else 1 << first
    most = 0 if last is None else MANY_TOKENS if last == 20 else 1 << (last + 1)
    s, d = total(1024, block), total(1024, None)
    grid = shape[0] // block * (shape[1] // block)
    told = f"{n} of {grid} blocks of {block}: predicted {d / s:.2f}x dense at 1024 tokens"
    if first is None:
        told += f"; dense is used at every size: less than {m.margin:.1f}x is no certain gain"
    elif (least, most) != (1, MANY_TOKENS):
        told += f"; sparse is used from {least} tokens" + ("" if most == MANY_TOKENS else f" to {most}")
    return Choice(least, most, s, d, f"{told} ({m.source})")


def crossover_density(
    shape: tuple[int, int], block: int, tokens: int, device: str, itemsize: int, gain: float = 1.0
) -> float:
    """The density, 0 to 1, below which the three products are more than ``gain`` times as fast sparse as dense."""
    total = shape[0] // block * (shape[1] // block)
    dense = step_seconds(tokens, shape, None, 0, device, itemsize)
    low, high = 0, total
    while low < high:  # predicted time grows with n
        n = (low + high + 1) // 2
        faster = gain * step_seconds(tokens, shape, block, n, device, itemsize) < dense
        low, high = (n, high) if faster else (low, n - 1)
    return low / total
