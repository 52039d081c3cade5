"""When the kernels for Hopper are taken, and that they fit."""

import re
from collections.abc import Callable

import pytest
import torch

from procosm.sparse import kernels
from procosm.sparse.kernels import compiler, hopper
from tests.sparse.kernels.host_device import HostDevice

SHARED = 232448  # bytes a CTA may have on sm_90


@pytest.mark.parametrize("block", hopper.STAGES)
def test_shared_memory_fits_with_what_the_kernels_declare(block: int) -> None:
    assert hopper.product_bytes(block) + 2048 <= SHARED  # barriers and order of lines, to a multiple of 1024
    assert hopper.gradient_bytes(block) + 4096 <= SHARED  # barriers and groups before each row


@pytest.mark.parametrize(("file", "name"), [("hopper_product.cuh", "MOST_LINES"), ("shares.cuh", "MOST_ROWS")])
def test_tables_of_lines_are_as_long_as_the_binding_believes(file: str, name: str) -> None:
    text = (compiler.HERE / file).read_text()
    assert int(re.search(rf"constexpr int {name} = (\d+);", text).group(1)) == hopper.MOST_LINES


@pytest.mark.parametrize(
    ("case", "capability", "name"),
    [
        ({"block": 64, "dtype": torch.bfloat16}, (9, 0), "hopper_forward"),
        ({"block": 64, "dtype": torch.bfloat16}, (8, 0), "forward"),
        ({"block": 64, "dtype": torch.bfloat16}, (10, 0), "forward"),
        ({"block": 32, "dtype": torch.bfloat16}, (9, 0), "forward"),
        ({"block": 64, "dtype": torch.float32}, (9, 0), "forward"),
        ({"block": 64, "dtype": torch.float16, "grid": (961, 1), "density": 0.001, "tokens": 2}, (9, 0), "forward"),
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
