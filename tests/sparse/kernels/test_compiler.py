"""Every kernel compiles for every architecture, without a GPU or a driver, and keeps its sums in registers."""

from pathlib import Path

import pytest

from procosm.sparse.errors import SparseError
from procosm.sparse.kernels import compiler

PRODUCTS = ("forward", "data_gradient", "weight_gradient", "block_norms")
STEPS = ("adam", "sgd", "log_histogram")
ELF = b"\x7fELF"


def test_these_are_all_kernels() -> None:
    assert {path.stem for path in compiler.HERE.glob("*.cu")} == {*PRODUCTS, *STEPS}


@pytest.mark.parametrize("arch", ["sm_80", "sm_90a", "sm_100a", "sm_120"])
@pytest.mark.parametrize("name", [*PRODUCTS, *STEPS])
def test_compiles_for_every_architecture(name: str, arch: str) -> None:
    cubin = compiler.compile_kernel(name, arch)
    assert cubin.startswith(ELF) and f"procosm_{name}".encode() in cubin


@pytest.mark.parametrize(("dtype", "block"), [(0, 64), (1, 64), (2, 16), (2, 32), (2, 128), (0, 16), (0, 128)])
@pytest.mark.parametrize("name", PRODUCTS)
def test_compiles_for_every_dtype_and_block(name: str, dtype: int, block: int) -> None:
    assert compiler.compile_kernel(name, "sm_90a", DTYPE=dtype, BLOCK=block).startswith(ELF)


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
