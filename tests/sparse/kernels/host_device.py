"""Run a kernel's own source on the CPU: g++ compiles NAME.cu against host/, ctypes calls it as the binding would.

``launch.run`` is the only thing it stands in for, so the tests execute the real binding and the real index arithmetic.
"""

import ctypes
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from procosm.sparse.kernels.tensor_map import Boxes

KERNELS = Path(__file__).resolve().parents[3] / "sparse" / "kernels"
HOST = Path(__file__).resolve().parent / "host"
COMPILER = shutil.which("g++")


class TensorMap(ctypes.Structure):
    """What host/sm90.cuh reads in place of the driver's descriptor: address, rows, columns, height of a box."""

    _fields_ = (("words", ctypes.c_uint64 * 16),)


CTYPES = {np.int32: ctypes.c_int32, np.int64: ctypes.c_int64, np.float32: ctypes.c_float}


class HostDevice:
    """Compiles into ``folder`` and runs launches on CPU tensors.

    Attributes:
        order: in which order threads take turns; odd ones copy late and multiply early, even ones the reverse.
        capability: the compute capability it stands for.
        source: folder of the kernels.
        processors: how many multiprocessors it claims, which decides how persistent kernels share work.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.order, self.launches, self.names = folder, 0, 0, []
        self.capability, self.processors = (8, 0), 3
        self.source = KERNELS

    def run(
        self,
        name: str,
        grid: tuple[int, ...],
        threads: int,
        arguments: Sequence[torch.Tensor | Boxes | np.generic | None],
        shared: int = 0,
        **defines: int,
    ) -> None:
        """The stand-in for launch.run, with its signature."""
        if 0 in grid:
            return
        packed = [self._packed(argument) for argument in arguments]
        shape = [ctypes.c_int(side) for side in (*grid, 1)[:2]]
        launch = self._library(name, defines).launch
        launch.restype = ctypes.c_char_p
        failure = launch(*shape, ctypes.c_int(threads), ctypes.c_uint(self.order), ctypes.c_int(shared), *packed)
        assert failure is None, f"{name}: {failure.decode()}"
        self.launches += 1
        self.names.append(name)

    def _library(self, name: str, defines: dict[str, int]) -> ctypes.CDLL:
        stem = "-".join([name, *(f"{k}{v}" for k, v in sorted(defines.items()))])
        library = self.folder / f"{stem}.so"
        if not library.exists():
            source = self.folder / f"{stem}.cpp"
            text = (self.source / f"{name}.cu").read_text()
            parameters = re.search(rf"procosm_{name}\((.*?)\) {{", text, re.S).group(1)
            names = [re.search(r"(\w+)$", p.strip()).group(1) for p in parameters.split(",")]
            source.write_text(
                f'#include "machine.h"\n#include "{self.source}/{name}.cu"\n'
                f'extern "C" const char *launch(int gx, int gy, int threads, unsigned order, int shared, '
                f"{parameters}) {{\n  return host::run({{gx, gy, 1}}, threads, order, shared, "
                f"[=] {{ procosm_{name}({', '.join(names)}); }});\n}}\n"
            )
            # Without -fno-gnu-unique, shared memory of equal name would be one for all kernels loaded so far.
            flags = ["-O1", "-std=c++17", "-shared", "-fPIC", "-fno-gnu-unique", "-w", f"-I{HOST}", f"-I{self.source}"]
            flags += [f"-D{k}={v}" for k, v in defines.items()]
            subprocess.run([COMPILER, *flags, source, "-o", library], check=True)
        return ctypes.CDLL(str(library))

    @staticmethod
    def _packed(
        argument: torch.Tensor | Boxes | np.generic | None,
    ) -> ctypes.c_void_p | TensorMap | ctypes._SimpleCData:
        if isinstance(argument, Boxes):
            return TensorMap((ctypes.c_uint64 * 16)(argument.tensor.data_ptr(), *argument.size, argument.height))
        if argument is None or isinstance(argument, torch.Tensor):
            return ctypes.c_void_p(None if argument is None else argument.data_ptr())
        return CTYPES[type(argument)](argument)
