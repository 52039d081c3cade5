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

KERNELS = Path(__file__).resolve().parents[3] / "sparse" / "kernels"
HOST = Path(__file__).resolve().parent / "host"
COMPILER = shutil.which("g++")

CTYPES = {np.int32: ctypes.c_int32, np.int64: ctypes.c_int64, np.float32: ctypes.c_float}


class HostDevice:
    """Compiles into ``folder`` and runs launches; ``order`` picks the order in which threads take turns."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.order, self.launches = folder, 0, 0

    def run(
        self,
        name: str,
        grid: tuple[int, ...],
        threads: int,
        arguments: Sequence[torch.Tensor | np.generic | None],
        **defines: int,
    ) -> None:
        """The stand-in for launch.run, with its signature."""
        if 0 in grid:
            return
        packed = [ctypes.c_void_p(self._pointer(a)) if self._is_pointer(a) else CTYPES[type(a)](a) for a in arguments]
        shape = [ctypes.c_int(side) for side in (*grid, 1)[:2]]
        self._library(name, defines).launch(*shape, ctypes.c_int(threads), ctypes.c_uint(self.order), *packed)
        self.launches += 1

    def _library(self, name: str, defines: dict[str, int]) -> ctypes.CDLL:
        stem = "-".join([name, *(f"{k}{v}" for k, v in sorted(defines.items()))])
        library = self.folder / f"{stem}.so"
        if not library.exists():
            source = self.folder / f"{stem}.cpp"
            text = (KERNELS / f"{name}.cu").read_text()
            parameters = re.search(rf"procosm_{name}\((.*?)\) {{", text, re.S).group(1)
            names = [re.search(r"(\w+)$", p.strip()).group(1) for p in parameters.split(",")]
            source.write_text(
                f'#include "machine.h"\n#include "{KERNELS}/{name}.cu"\n'
                f'extern "C" void launch(int gx, int gy, int threads, unsigned order, {parameters}) {{\n'
                f"  host::run({{gx, gy, 1}}, threads, order, [=] {{ procosm_{name}({', '.join(names)}); }});\n}}\n"
            )
            flags = ["-O1", "-std=c++17", "-shared", "-fPIC", "-w", f"-I{HOST}"]
            flags += [f"-D{k}={v}" for k, v in defines.items()]
            subprocess.run([COMPILER, *flags, source, "-o", library], check=True)
        return ctypes.CDLL(str(library))

    @staticmethod
    def _is_pointer(argument: torch.Tensor | np.generic | None) -> bool:
        return argument is None or isinstance(argument, torch.Tensor)

    @staticmethod
    def _pointer(argument: torch.Tensor | None) -> int | None:
        return None if argument is None else argument.data_ptr()
