"""The machines that ``cost`` predicts for: those that were measured, and GPUs by what CUDA reports of them.

A processor that nobody measured is judged by what its flags say of bfloat16, for that decides how fast dense products
are, and has to be predicted a larger gain. A GPU is judged by the tables of an H200, scaled by its multiprocessors,
clock, operations a cycle and memory bandwidth; ``timing.measure`` replaces that by what it times.
"""

import platform
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import torch

MARGIN = 1.1
"""Where a step was timed, sparse counts as faster from here on: so short a timing may be a tenth off."""
GUESSED = 2.0
"""The margin of a table that nobody measured: for each of its predictions being half or twice the truth."""
KEYS = (("cpu", 4), ("cpu", 2), ("cuda", 4), ("cuda", 2))
"""Device types and bytes of an element for which there are tables."""


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
    margin: float = MARGIN
    """Sparse is taken where it is predicted to be this many times as fast: the most by which the prediction of a
    measured cell near the crossover was too high."""


_ZEN5 = "measured on one core of an AMD EPYC (Zen 5, AVX512-bf16, no AMX), torch 2.13"
_FITTED = f"fitted to benchmarks/results/sparse_cpu.json (two cores of Zen 4) and to cells {_ZEN5}"
ZEN = {
    4: Machine(94e9, 20e9, 4e-6, 40e-6, {16: 0.25, 32: 0.58, 64: 0.80, 128: 0.93}, True, _ZEN5, margin=1.2),
    2: Machine(420e9, 100e9, 40e-6, 5e-6, {16: 0.18, 32: 0.46, 64: 0.57, 128: 0.62}, False, _FITTED, 42),
}
_CHOICES = "fitted to benchmarks/results/sparse_choices.json: one core of a Xeon, AVX512, no bfloat16"
XEON = {
    4: Machine(
        223e9, 5e9, 4e-6, 150e-6, {16: 0.125, 32: 0.35, 64: 0.47, 128: 0.62}, True, f"measured, {_CHOICES}", 75, 1.5
    ),
    2: Machine(
        29.6e9, 5.9e9, 92e-6, 17e-6, {16: 0.57, 32: 0.72, 64: 0.78, 128: 0.81}, False, f"measured, {_CHOICES}", 0, 1.25
    ),
}  # fmt: skip
_AMX = "fitted to benchmarks/results/sparse_choices_amx.json: one core of a Xeon with AMX"
AMX = {
    4: Machine(
        192e9, 7.9e9, 5.4e-6, 105e-6, {16: 0.09, 32: 0.26, 64: 0.40, 128: 0.54}, True, f"measured, {_AMX}", 0, 1.3
    ),
    2: Machine(
        937e9, 40e9, 57e-6, 97e-6, {16: 0.05, 32: 0.111, 64: 0.217, 128: 0.333}, False, f"measured, {_AMX}", 88, 1.3
    ),
}  # fmt: skip


class Processor(NamedTuple):
    """What decides the speed of products on a CPU."""

    vendor: str
    avx512: bool
    bfloat16: str | None
    """The flag of its fastest instructions for bfloat16, of BFLOAT16; "" if it has none, None if that is not said."""


BFLOAT16 = ("amx_bf16", "avx512_bf16", "bf16")
"""What /proc/cpuinfo calls instructions for bfloat16, the fastest first: tiles, vectors of x86, vectors of Arm."""
BY_PROCESSOR = {
    Processor("GenuineIntel", True, "amx_bf16"): AMX,
    Processor("AuthenticAMD", True, "avx512_bf16"): ZEN,
    Processor("GenuineIntel", True, ""): XEON,
}
_LIKE = {"amx_bf16": AMX, "avx512_bf16": ZEN, "bf16": ZEN, "": XEON, None: AMX}
"""By flag, the measured processor whose dense products in bfloat16 are as fast; where nothing is said, the fastest."""


class Gpu(NamedTuple):
    """What decides the speed of products on a GPU."""

    capability: tuple[int, int]
    processors: int
    clock_hz: float
    bandwidth: float
    """Bytes/s of its memory."""


H200 = Gpu((9, 0), 132, 1.98e9, 4.8e12)
_A_CYCLE = {(8, 0): (128, 2048), (8, 6): (256, 1024), (8, 9): (256, 1024), (9, 0): (256, 4096), (10, 0): (256, 8192),
            (10, 3): (256, 8192), (12, 0): (256, 1024)}  # fmt: skip
"""Floating-point operations a multiprocessor does in a cycle: float32, and bfloat16 on tensor cores (NVIDIA's white
papers of A100, GA102, Ada, H100 and Blackwell)."""
_READING = "assumed from reading the kernels, not measured"
_SIMPLE = {
    # float32: 8 multiply-adds, 2 cycles on four schedulers, take 9 reads of shared memory, 9 cycles: 2 / 9 of the peak.
    4: Machine(45e12, 4e12, 5e-6, 110e-6, {16: 0.05, 32: 0.1, 64: 0.15, 128: 0.2}, False, _READING, 0, GUESSED),
    2: Machine(880e12, 4e12, 5e-6, 110e-6, {16: 0.02, 32: 0.04, 64: 0.06, 128: 0.08}, False, _READING, 0, GUESSED),
}
_MEASURED = "measured on an H200: d 4096, density .1, 8192 tokens, all three products; start: the host's for a launch"
HOPPER = replace(_SIMPLE[2], efficiency={16: 0.02, 32: 0.04, 64: 0.26, 128: 0.34}, source=_MEASURED, margin=MARGIN)
"""The kernels for sm_90a (blocks of 64 and 128; smaller ones as assumed)."""
TIMED: dict[tuple[str, int], Machine] = {}
"""What ``timing.measure`` found in this process."""


def machine(device: str, itemsize: int) -> Machine:
    """The numbers of a device type ("cpu" or "cuda") and 4 or 2 bytes; asking opens no context on a GPU."""
    if (device, itemsize) in TIMED:
        return TIMED[device, itemsize]
    if device == "cuda":
        return of_gpu(_this_gpu() if torch.cuda.is_initialized() else H200, itemsize)
    here = processor()
    if here in BY_PROCESSOR:
        return BY_PROCESSOR[here][itemsize]
    # In float32 the table of one Xeon was at most this margin, 1.5, too high for the other; in bfloat16 nobody knows.
    table = XEON[4] if itemsize == 4 else replace(_LIKE[here.bfloat16][2], margin=GUESSED)
    return replace(table, source=f"{table.source}; not measured on this processor")


def of_gpu(gpu: Gpu, itemsize: int) -> Machine:
    """The tables of an H200 scaled to another GPU; the host's times stay."""
    hopper = itemsize == 2 and gpu.capability == H200.capability
    table, column = HOPPER if hopper else _SIMPLE[itemsize], 1 if itemsize == 2 else 0
    speed = gpu.processors * gpu.clock_hz * _A_CYCLE.get(gpu.capability, _A_CYCLE[H200.capability])[column]
    faster = speed / (H200.processors * H200.clock_hz * _A_CYCLE[H200.capability][column])
    wider = gpu.bandwidth / H200.bandwidth
    if hopper and abs(faster - 1) < 0.05 and abs(wider - 1) < 0.05:
        return table
    told = f"scaled from an H200 by {faster:.2f} (processors, clock) and {wider:.2f} (memory); not measured on this GPU"
    scaled = replace(table, rate=table.rate * faster, bandwidth=table.bandwidth * wider)
    return replace(scaled, margin=GUESSED, source=f"{table.source}; {told}")


def _this_gpu() -> Gpu:
    """Torch's current device, by what CUDA reports: clocks in kHz, the bus in bits, two transfers a cycle."""
    found: Any = torch.cuda.get_device_properties(torch.cuda.current_device())
    clock = getattr(found, "clock_rate", H200.clock_hz / 1e3)  # torch tells clocks from some version on
    memory = getattr(found, "memory_clock_rate", 0) * 1e3 * 2 * getattr(found, "memory_bus_width", 0) / 8
    return Gpu((found.major, found.minor), found.multi_processor_count, clock * 1e3, memory or H200.bandwidth)


@lru_cache
def processor() -> Processor:
    """This machine's processor, as /proc/cpuinfo describes it; other systems than Linux say nothing of bfloat16."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8").split("\n\n")[0] if info.exists() else ""
    return described(text)


def described(text: str) -> Processor:
    """The first processor of a /proc/cpuinfo; "flags" are called "Features" on Arm."""
    said = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in text.splitlines())}
    flags = said.get("flags", said.get("Features"))
    has = [] if flags is None else flags.split()
    bfloat16 = None if flags is None else next((flag for flag in BFLOAT16 if flag in has), "")
    return Processor(said.get("vendor_id", platform.machine()), "avx512f" in has, bfloat16)
