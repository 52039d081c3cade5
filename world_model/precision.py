"""Where bfloat16 pays."""

from pathlib import Path


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 matrices in hardware; emulated, they are slower than float32.

    Only Linux says so; elsewhere the answer is no, and everything runs in float32.
    """
    flags = Path("/proc/cpuinfo")
    return flags.exists() and bool({"avx512_bf16", "amx_bf16", "bf16"} & set(flags.read_text().split()))
