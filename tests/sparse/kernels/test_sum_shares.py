"""sum_shares.cu against the reference, which lists every stage: on the CPU by its own source, on a GPU where one is."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from procosm.sparse import reference
from procosm.sparse.errors import SparseError
from procosm.sparse.kernels import compiler
from procosm.sparse.kernels.sum_shares import sum_shares
from tests.sparse.kernels.host_device import HostDevice
from tests.sparse.kernels.test_compiler import disassembler

# name: slots of each row, CTAs, tokens
PATTERNS = {
    "one CTA": ([3, 2], 1, 200),
    "even": ([2, 2, 2, 2], 3, 640),
    "ragged": ([0, 17, 1, 0, 0, 9, 8], 5, 1000),
    "more CTAs than stages": ([1, 0, 2], 40, 100),
    "a CTA for each few loads": ([5, 31, 16], 132, 8192),
}


@pytest.mark.parametrize(("block", "together"), [(64, 8), (128, 2)])
@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("pattern", PATTERNS)
def test_sum_shares(place: Callable, pattern: str, chunks: int, block: int, together: int) -> None:
    lengths, ctas, tokens = PATTERNS[pattern]
    live = sum(lengths)
    row_ptr = torch.tensor([0, *np.cumsum(lengths)], dtype=torch.int32)
    rows = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths)).int()
    rows = torch.cat([rows, rows.new_zeros(2)])
    generator = torch.Generator().manual_seed(0)
    # Constant blocks: what is added is told by which place it comes from, and tests stay fast.
    stages = -(-tokens // 64)
    per_chunk = -(-stages // chunks)
    sizes = (-(-stages // per_chunk), together * ctas + live + 2)
    partial = torch.randn(*sizes, 1, 1, generator=generator).expand(-1, -1, block, block).contiguous()
    dv = torch.randn(live + 2, 1, 1, generator=generator).expand(-1, block, block).contiguous()
    truth = dv.double().numpy()
    reference.sum_shares(partial.double().numpy(), truth, row_ptr.numpy(), tokens, per_chunk, together, ctas)
    got = place(dv)
    sum_shares(place(partial), got, place(rows), place(row_ptr), tokens, per_chunk)
    torch.testing.assert_close(got.cpu().double(), torch.from_numpy(truth), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ctas", [1, 3, 17, 132])
def test_every_share_costs_the_same_to_one_stage(ctas: int) -> None:
    row_ptr = np.concatenate([[0], np.cumsum(np.random.default_rng(0).binomial(64, 0.1, 64))])
    stages, cost = 128, np.zeros(ctas)
    for row in reference.shares(row_ptr, 8, stages, ctas):
        for _, length, owners in row:
            assert owners == sorted(owners) and length <= 8
            np.add.at(cost, owners, 1 + length)
    assert cost.sum() == stages * (row_ptr[-1] + sum(map(len, reference.shares(row_ptr, 8, stages, ctas))))
    assert abs(cost - cost.mean()).max() <= 9, "off by more than a stage of the longest group"


def test_bad_operands_say_what_to_do(host: HostDevice) -> None:
    dv, index = torch.zeros(1, 64, 64), torch.zeros(2).int()
    with pytest.raises(SparseError, match="convert it"):
        sum_shares(torch.zeros(1, 9, 64, 64).double(), dv, index[:1], index, 64, 1)


def test_what_is_added_up_is_found_once_not_divided_out_for_each_group(tmp_path: Path) -> None:
    """No call (64-bit division is one) between the reads of 16 bytes of the loop that adds up."""
    tool = disassembler()
    if tool is None:
        pytest.skip("needs nvdisasm: pip install nvidia-cuda-nvdisasm")
    (tmp_path / "kernel.cubin").write_bytes(compiler.compile_kernel("sum_shares", "sm_90a", DTYPE=2, BLOCK=128))
    listing = subprocess.run([tool, tmp_path / "kernel.cubin"], capture_output=True, text=True, check=True).stdout
    assert "CALL.REL" in listing, "divisions are found by this name"
    assert "CALL.REL" not in listing[listing.index("LDG.E.128") : listing.rindex("LDG.E.128")]
