"""The model of Hopper's and Ampere's instructions notices the mistakes it is there for."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from procosm.sparse import kernels
from tests.sparse.kernels.host_device import KERNELS, HostDevice

RING, PRODUCT = "hopper.cuh", "hopper_product.cuh"
MISTAKES = {
    "a stage is given back while products read it": (RING, "products_wait<1>();", "products_wait<2>();"),
    "a stage is not awaited": (RING, "barrier_wait(&ring.full[at.stage], at.phase);", ""),
    "a stage is filled before it is empty": (PRODUCT, "barrier_wait(&ring.empty[at.stage], at.phase ^ 1);", ""),
    "a stage is never given back": (RING, "if (c > 0) release(&ring.empty[before]);", ""),
    "the writer waits for the wrong phase": (PRODUCT, "at.phase ^ 1", "at.phase"),
    "fewer bytes arrive than announced": (PRODUCT, "full[at.stage], STAGE)", "full[at.stage], STAGE + 16)"),
    "results are stored before they are published": (PRODUCT, "    publish();\n    group_sync", "    group_sync"),
    "a piece is overwritten before it was stored": (PRODUCT, "stores_read<PIECES - 1>();", "stores_read<PIECES>();"),
    "every piece takes the same place": (PRODUCT, "stored++ % PIECES", "0"),
    "a step of the operands is too long": (RING, "16 * 128 : 16 * 2", "16 * 128 : 16 * 4"),
    "the swizzle of the results is missing": (PRODUCT, "^ (line % 8)", ""),
    "a tile starts off the swizzle's period": (RING, "(1024 - shared_address(memory) % 1024) % 1024", "0"),
}


COMMON = "common.cuh"
MISTAKES_ON_AMPERE = {
    "a stage is not awaited": (COMMON, "copies_wait<1>();", "copies_wait<2>();"),
    "a stage is filled before everybody has read it": (
        COMMON,
        "    __syncthreads();  // chunk c + 2",
        "    // chunk c + 2",
    ),
    "others' copies are not awaited": (COMMON, "    __syncthreads();  // everybody's", "    // everybody's"),
    "the last chunk is not told from the one before": (
        COMMON,
        "    copies_commit();  // after the last",
        "    // after the",
    ),
    "both stages are one": (COMMON, "fill(c + 1, (c + 1) % 2)", "fill(c + 1, c % 2)"),
    "a copy starts anywhere": ("forward.cu", "constexpr int LD = SPAN + VEC;", "constexpr int LD = SPAN + 1;"),
}


@pytest.mark.parametrize("mistake", MISTAKES_ON_AMPERE)
def test_a_mistake_in_the_kernel_for_ampere_shows(
    problem: Callable, host: HostDevice, tmp_path: Path, mistake: str
) -> None:
    file, right, wrong = MISTAKES_ON_AMPERE[mistake]
    p = problem(block=32, tokens=90, grid=(3, 4), density=1.0, dtype=torch.bfloat16)
    operands = (p.x.contiguous(), p.weight.values, p.weight.cols, p.weight.row_ptr)
    good = kernels.forward(*operands)

    host.source = host.folder = Path(shutil.copytree(KERNELS, tmp_path / "kernels"))
    text = (host.source / file).read_text()
    assert right in text
    (host.source / file).write_text(text.replace(right, wrong))
    noticed = 0
    for host.order in range(4):
        try:
            noticed += not torch.equal(kernels.forward(*operands), good)
        except AssertionError:
            noticed += 1
    assert noticed


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_in_the_kernel_shows(problem: Callable, hopper: HostDevice, tmp_path: Path, mistake: str) -> None:
    file, right, wrong = MISTAKES[mistake]
    p = problem(block=64, tokens=600, grid=(2, 4), density=1.0, dtype=torch.bfloat16)
    operands = (p.x.contiguous(), p.weight.values, p.weight.cols, p.weight.row_ptr)
    good = kernels.forward(*operands)

    hopper.source = hopper.folder = Path(shutil.copytree(KERNELS, tmp_path / "kernels"))
    text = (hopper.source / file).read_text()
    assert right in text
    (hopper.source / file).write_text(text.replace(right, wrong))
    noticed = 0
    for hopper.order in (0, 1):
        try:
            noticed += not torch.equal(kernels.forward(*operands), good)
        except AssertionError:
            noticed += 1
    assert noticed
