"""What an operation must compute and move, and from that whether sparse or dense is faster.

Time of an operation = start + operations / (rate * efficiency of the block size) + bytes / bandwidth + calls *
overhead. Dense is the same formula with the efficiency of its least size, one call and no start.
``benchmarks/sparse/cpu.py`` measures how well it predicts.
"""

from dataclasses import dataclass

import torch

OPERATIONS = ("forward", "data_gradient", "weight_gradient")
MANY_TOKENS = 1 << 30
CHUNK_TOKENS = 1024
MARGIN = 1.1
"""Sparse is taken where it is predicted to be this many times as fast as dense: a prediction may be a tenth off."""


@dataclass(frozen=True)
class Work:
    """What one operation costs before any machine is named."""

    flops: float
    """Multiplications and additions."""
    bytes: float
    """Operands read and results written once, in the operands' dtype."""


@dataclass(frozen=True)
class Machine:
    """One device in one dtype."""

    rate: float
    """Dense matrix products reach this many FLOP/s."""
    bandwidth: float
    """Bytes/s a product streams."""
    call_s: float
    """Seconds one small GEMM call costs beyond its arithmetic."""
    start_s: float
    """Seconds a sparse operation takes before its first product: dispatch, reading the index, pairing rows."""
    efficiency: dict[int, float]
    """Share of ``rate`` that products of b x b blocks reach, by b."""
    per_block: bool
    """Whether a call covers one block and a chunk of tokens (CPU float32) or a whole block row."""
    source: str
    """Where the numbers come from: measured, or estimated."""
    narrow: float = 0.0
    """A dense product whose least size is k reaches k / (k + narrow) of ``rate``."""


_ZEN5 = "measured on one core of an AMD EPYC (Zen 5, AVX512-bf16, no AMX), torch 2.13"
_FITTED = f"fitted to benchmarks/results/sparse_cpu.json (two cores of Zen 4) and to cells {_ZEN5}"
_H200 = "estimated from the data sheet and published block-sparse efficiencies, not measured"
MACHINES = {
    ("cpu", 4): Machine(94e9, 20e9, 4e-6, 40e-6, {16: 0.25, 32: 0.58, 64: 0.80, 128: 0.93}, True, _ZEN5),
    ("cpu", 2): Machine(420e9, 100e9, 40e-6, 5e-6, {16: 0.18, 32: 0.46, 64: 0.57, 128: 0.62}, False, _FITTED, 42),
    ("cuda", 4): Machine(45e12, 4e12, 5e-6, 30e-6, {16: 0.1, 32: 0.2, 64: 0.35, 128: 0.5}, False, _H200),
    ("cuda", 2): Machine(700e12, 4e12, 5e-6, 30e-6, {16: 0.04, 32: 0.08, 64: 0.15, 128: 0.2}, False, _H200),
}
_MEASURED = "measured on an H200: d 4096, density .1, 8192 tokens, all three products; start: the host's for a launch"
HOPPER = Machine(880e12, 4e12, 5e-6, 110e-6, {16: 0.04, 32: 0.08, 64: 0.26, 128: 0.34}, False, _MEASURED)
"""The kernels for sm_90a (blocks of 64 and 128)."""


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
    """Where MACHINES keeps a device type and dtype; float64 counts as float32, other devices as the CPU."""
    return "cuda" if device == "cuda" else "cpu", min(dtype.itemsize, 4)


def machine(device: str, itemsize: int) -> Machine:
    """The numbers of MACHINES, or HOPPER's where this process uses such a GPU: asking opens no context on it."""
    if (
        (device, itemsize) == ("cuda", 2)
        and torch.cuda.is_initialized()
        and torch.cuda.get_device_capability() == (9, 0)
    ):
        return HOPPER
    return MACHINES[device, itemsize]


def seconds(
    operation: str, tokens: int, shape: tuple[int, int], block: int | None, n: int, device: str, itemsize: int
) -> float:
    """Predicted time of one product: sparse with n blocks of side ``block``, or dense when block is None."""
    m = machine(device, itemsize)
    elements = shape[0] * shape[1] if block is None else n * block * block
    w = work(operation, tokens, shape, elements, itemsize)
    if block is None:
        narrowest = min(tokens, *shape)
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


def choose(shape: tuple[int, int], block: int, n: int, device: str, itemsize: int) -> Choice:
    """For which token counts a training step (three products) is expected to be faster sparse than dense, by MARGIN."""

    def total(tokens: int, side: int | None) -> float:
        return step_seconds(tokens, shape, side, n, device, itemsize)

    wins = [MARGIN * total(1 << k, block) < total(1 << k, None) for k in range(21)]
    first = next((k for k, won in enumerate(wins) if won), None)
    last = max((k for k, won in enumerate(wins) if won), default=None)
    least = MANY_TOKENS if first is None else 1 << first
    most = 0 if last is None else MANY_TOKENS if last == 20 else 1 << (last + 1)
    s, d = total(1024, block), total(1024, None)
    grid = shape[0] // block * (shape[1] // block)
    told = f"{n} of {grid} blocks of {block}: predicted {d / s:.2f}x dense at 1024 tokens"
    if first is None:
        told += "; dense is used at every size, sparse would gain less than a tenth"
    elif (least, most) != (1, MANY_TOKENS):
        told += f"; sparse is used from {least} tokens" + ("" if most == MANY_TOKENS else f" to {most}")
    return Choice(least, most, s, d, f"{told} ({machine(device, itemsize).source})")


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
