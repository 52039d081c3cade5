"""CUDA source to cubin with NVRTC: needs the pip packages of the ``gpu`` extra, no driver and no device."""

import hashlib
import os
import tempfile
from functools import lru_cache
from pathlib import Path

from procosm.sparse.errors import SparseError

HERE = Path(__file__).resolve().parent


def compile_kernel(name: str, arch: str, **defines: int) -> bytes:
    """The cubin of ``name``.cu for ``arch`` ("sm_90a"), its constants overridden by ``defines``.

    Raises:
        SparseError: the compiler's packages are missing, or the source does not compile (with the compiler's log).
    """
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise SparseError("the kernels need NVRTC: pip install 'procosm[gpu]'") from error
    options = [f"--gpu-architecture={arch}", "--std=c++17", f"--include-path={HERE}"]
    options += [f"--include-path={folder}" for folder in _headers()]
    options += [f"--define-macro={key}={value}" for key, value in sorted(defines.items())]
    source = (HERE / f"{name}.cu").read_text(encoding="utf-8")
    status, program = nvrtc.nvrtcCreateProgram(source.encode(), f"{name}.cu".encode(), 0, [], [])
    _check(nvrtc, status)
    (status,) = nvrtc.nvrtcCompileProgram(program, len(options), [option.encode() for option in options])
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        log = b" " * nvrtc.nvrtcGetProgramLogSize(program)[1]
        nvrtc.nvrtcGetProgramLog(program, log)
        raise SparseError(f"{name}.cu does not compile for {arch} with {defines}:\n{log.decode().rstrip(chr(0))}")
    status, size = nvrtc.nvrtcGetCUBINSize(program)
    _check(nvrtc, status)
    cubin = b" " * size
    nvrtc.nvrtcGetCUBIN(program, cubin)
    nvrtc.nvrtcDestroyProgram(program)
    return cubin


def cached_cubin(name: str, arch: str, **defines: int) -> Path:
    """The file that holds ``compile_kernel(...)``, compiled at first use and kept in ``cache_folder``."""
    text = "".join(path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*.cu*")))
    key = hashlib.sha256(repr((text, name, arch, sorted(defines.items()))).encode()).hexdigest()[:24]
    path = cache_folder(os.environ.get("PROCOSM_CACHE")) / f"{name}-{arch}-{key}.cubin"
    if not path.exists():
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(compile_kernel(name, arch, **defines))
            file.flush()
            os.fsync(file.fileno())
        Path(file.name).replace(path)
    return path


@lru_cache
def cache_folder(chosen: str | None) -> Path:
    """Where cubins are kept: below ``chosen``, else ~/.cache/procosm; a temporary folder where it cannot be written."""
    try:
        folder = Path(chosen or Path.home() / ".cache" / "procosm") / "kernels"
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except (OSError, RuntimeError):  # RuntimeError: this user has no home
        return Path(tempfile.mkdtemp(prefix="procosm-"))
    return folder


def architecture(major: int, minor: int) -> str:
    """What to compile for on a device of this compute capability; 9.0 and 10.0 have a richer a-form."""
    if major < 8:
        raise SparseError(f"compute capability {major}.{minor} is not supported: bfloat16 needs 8.0 (A100) or newer")
    return f"sm_{major}{minor}" + ("a" if (major, minor) in ((9, 0), (10, 0)) else "")


def _headers() -> list[str]:
    from cuda.pathfinder import find_nvidia_header_directory

    folder = find_nvidia_header_directory("cudart")
    if folder is None:
        raise SparseError("the CUDA headers were not found: pip install 'procosm[gpu]', or set CUDA_HOME")
    return [folder, str(Path(folder) / "cccl")]


def _check(nvrtc, status) -> None:
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise SparseError(f"NVRTC failed: {nvrtc.nvrtcGetErrorString(status)[1].decode()}")
