"""When the kernels for Hopper are taken, and that they fit."""

import struct
from collections.abc import Callable

import pytest
import torch

from procosm.sparse import kernels
from procosm.sparse.kernels import compiler, hopper
from tests.sparse.kernels.host_device import HostDevice

SHARED = 232448  # bytes a CTA may have on sm_90


def declared(cubin: bytes, kernel: str) -> int:
    """Bytes of static shared memory of a kernel: its ELF section ``.nv.shared.KERNEL`` without the KiB that the system
    takes of it, which is not counted in SHARED.
    """
    (table,), (width, count, names) = struct.unpack_from("<Q", cubin, 40), struct.unpack_from("<HHH", cubin, 58)
    headers = [struct.unpack_from("<IIQQQQ", cubin, table + k * width) for k in range(count)]
    text = cubin[headers[names][4] :]
    sizes = {text[h[0] : text.index(b"\0", h[0])].decode(): h[5] for h in headers}
    return sizes[f".nv.shared.{kernel}"] - 1024


@pytest.mark.parametrize("block", hopper.STAGES)
@pytest.mark.parametrize("name", ["forward", "data_gradient", "weight_gradient", "block_norms"])
def test_shared_memory_fits_with_what_the_kernels_declare(name: str, block: int) -> None:
    """Dynamic memory begins at a multiple of 1024; a KiB at least is left, so that a word more breaks nothing."""
    defines = hopper.constants(torch.empty(0, dtype=torch.bfloat16), block)
    static = declared(compiler.compile_kernel(f"hopper_{name}", "sm_90a", **defines), f"procosm_hopper_{name}")
    dynamic = (hopper.product_bytes if name in ("forward", "data_gradient") else hopper.gradient_bytes)(block)
    assert static > 0 and -(-static // 1024) * 1024 + dynamic <= SHARED - 1024


@pytest.mark.parametrize(
    ("case", "capability", "name"),
    [
        ({"block": 64, "dtype": torch.bfloat16}, (9, 0), "hopper_forward"),
        ({"block": 64, "dtype": torch.bfloat16}, (8, 0), "forward"),
        ({"block": 64, "dtype": torch.bfloat16}, (10, 0), "forward"),
        ({"block": 32, "dtype": torch.bfloat16}, (9, 0), "forward"),
        ({"block": 64, "dtype": torch.float32}, (9, 0), "forward"),
        ({"block": 64, "dtype": torch.float16, "grid": (481, 1), "density": 0.001, "tokens": 2}, (9, 0), "forward"),
    ],
)
def test_other_devices_dtypes_and_sizes_take_the_simple_kernel(
    problem: Callable, host: HostDevice, case: dict, capability: tuple[int, int], name: str
) -> None:
    host.capability = capability
    p = problem(**case)
    kernels.forward(p.x.contiguous(), p.weight.values, p.weight.cols, p.weight.row_ptr)
    assert host.names == [name]


@pytest.mark.parametrize(("tokens", "lines", "items"), [(8192, 64, 32), (512, 64, 64), (8192, 65, 33), (100, 1, 1)])
def test_lines_are_paired_where_that_leaves_nobody_idle(tokens: int, lines: int, items: int) -> None:
    assert hopper.places(tokens, lines, 64, 132) == items


@pytest.mark.parametrize(("probed", "wanted"), [(1, 1), (263, 1), (528, 2), (10000, 8)])
def test_probed_blocks_are_joined_once_every_processor_has_two_items(probed: int, wanted: int) -> None:
    assert hopper.together(probed, 64, 132) == wanted
