"""Every kernel compiles for every architecture, without a GPU or a driver, and keeps its sums in registers."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from procosm.sparse.errors import SparseError
from procosm.sparse.kernels import compiler, hopper

PRODUCTS = ("forward", "data_gradient", "weight_gradient", "block_norms")
STEPS = ("adam", "sgd", "log_histogram", "sum_shares")
HOPPER = tuple(f"hopper_{name}" for name in PRODUCTS)
ELF = b"\x7fELF"


def test_these_are_all_kernels() -> None:
    assert {path.stem for path in compiler.HERE.glob("*.cu")} == {*PRODUCTS, *STEPS, *HOPPER}


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a", "sm_100a", "sm_120"])
@pytest.mark.parametrize("name", [*PRODUCTS, *STEPS])
def test_compiles_for_every_architecture(name: str, arch: str) -> None:
    cubin = compiler.compile_kernel(name, arch)
    assert cubin.startswith(ELF) and f"procosm_{name}".encode() in cubin


@pytest.mark.parametrize(("dtype", "block"), [(0, 64), (1, 64), (2, 16), (2, 32), (2, 128), (0, 16), (0, 128)])
@pytest.mark.parametrize("name", PRODUCTS)
def test_compiles_for_every_dtype_and_block(name: str, dtype: int, block: int) -> None:
    assert compiler.compile_kernel(name, "sm_90a", DTYPE=dtype, BLOCK=block).startswith(ELF)


@pytest.mark.parametrize("name", HOPPER)
def test_kernels_for_hopper_compile_for_float16_and_nothing_older(name: str) -> None:
    defines = hopper.constants(torch.empty(0, dtype=torch.float16), 64)
    assert compiler.compile_kernel(name, "sm_90a", **defines).startswith(ELF)
    with pytest.raises(SparseError, match="does not compile for sm_80"):
        compiler.compile_kernel(name, "sm_80", **defines)


def disassembler() -> str | None:
    """nvdisasm, from the PATH or from the package nvidia-cuda-nvdisasm."""
    installed = [str(found) for place in sys.path for found in Path(place).glob("nvidia/*/bin/nvdisasm")]
    return shutil.which("nvdisasm") or next(iter(installed), None)


@pytest.mark.parametrize("block", [64, 128])
@pytest.mark.parametrize("name", HOPPER)
def test_machine_code_of_the_kernels_for_hopper(name: str, block: int, tmp_path: Path) -> None:
    tool = disassembler()
    if tool is None:
        pytest.skip("needs nvdisasm: pip install nvidia-cuda-nvdisasm")
    (tmp_path / "kernel.cubin").write_bytes(
        compiler.compile_kernel(name, "sm_90a", **hopper.constants(torch.empty(0, dtype=torch.bfloat16), block))
    )
    listing = subprocess.run([tool, tmp_path / "kernel.cubin"], capture_output=True, text=True, check=True).stdout
    code = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]+)[^;]*;", listing)
    products = re.findall(r"HGMMA\.64x(\d+)x16\.F32\.BF16 \w+, gdesc\[\w+\]([.\w]*),", listing)
    transposed = {"forward": "", "data_gradient": ".tnspA"}.get(name.removeprefix("hopper_"), ".tnspA.tnspB")
    assert ("256", transposed) in products and {how for _, how in products} == {transposed}
    assert any(c.startswith("UTMALDG.2D") for c in code) and any(c.startswith("SYNCS.PHASECHK") for c in code)
    if name in ("hopper_forward", "hopper_data_gradient"):
        assert any(c.startswith("UTMASTG.2D") for c in code) and any(c.startswith("STSM.16.MT88.4") for c in code)
    assert not [c for c in code if c.startswith(("STL", "LDL"))], "registers are spilled"
    # Products run on while the next are issued: the compiler adds no wait after each, 4 of them share one.
    assert sum(c.startswith("WARPGROUP.DEPBAR") for c in code) <= len(products) / 2
    assert any(c.startswith("USETMAXREG") for c in code)


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a"])
@pytest.mark.parametrize(("dtype", "block"), [(2, 16), (2, 32), (1, 64), (0, 128)])
@pytest.mark.parametrize("name", PRODUCTS)
def test_the_simple_kernels_copy_while_they_multiply(
    name: str, dtype: int, block: int, arch: str, tmp_path: Path
) -> None:
    tool = disassembler()
    if tool is None:
        pytest.skip("needs nvdisasm: pip install nvidia-cuda-nvdisasm")
    (tmp_path / "kernel.cubin").write_bytes(compiler.compile_kernel(name, arch, DTYPE=dtype, BLOCK=block))
    listing = subprocess.run([tool, tmp_path / "kernel.cubin"], capture_output=True, text=True, check=True).stdout
    code = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][\w.]+)[^;]*;", listing)
    copies = [i for i, c in enumerate(code) if c.startswith("LDGSTS.E.BYPASS.128")]
    products = [i for i, c in enumerate(code) if c.startswith(("HMMA", "FFMA"))]
    assert copies and products and any(c.startswith("LDGDEPBAR") for c in code)
    assert copies[0] < products[0] and copies[-1] > copies[0], "the first chunk is copied before the loop, others in it"
    assert "STS.128" not in code, "operands pass through registers"


def test_the_cache_compiles_once_and_leaves_no_rubbish(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCOSM_CACHE", str(tmp_path))
    path = compiler.cached_cubin("sgd", "sm_80")
    first = path.stat().st_mtime_ns
    assert compiler.cached_cubin("sgd", "sm_80") == path and path.stat().st_mtime_ns == first
    assert compiler.cached_cubin("sgd", "sm_120") != path
    assert sorted(f.suffix for f in (tmp_path / "kernels").iterdir()) == [".cubin", ".cubin"]


def test_a_wrong_constant_shows_the_compilers_log() -> None:
    with pytest.raises(SparseError, match="does not compile for sm_80"):
        compiler.compile_kernel("forward", "sm_80", BLOCK=0)


def test_architectures() -> None:
    named = [compiler.architecture(*c) for c in ((8, 0), (8, 9), (9, 0), (10, 0), (12, 0))]
    assert named == ["sm_80", "sm_89", "sm_90a", "sm_100a", "sm_120"]
    with pytest.raises(SparseError, match="not supported"):
        compiler.architecture(7, 5)
