"""The machine (PEs, register files, global buffer, DRAM) and the price of touching each of its parts."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from procosm.sparse.errors import SparseError

LEVELS = ("RegFile", "GlobalBuffer", "DRAM")


@dataclass(frozen=True)
class EnergyTable:
    """Energy of one access, in `unit`; `source` says where each number comes from."""

    name: str
    unit: str
    mac: float
    """One fp32 multiply-accumulate."""
    rf_word: float
    """One 32-bit word read from or written to a PE's register file."""
    glb_line: float
    """One 64-bit line (two words) of the global buffer."""
    dram_line: float
    """One 64-bit burst (two words) of DRAM."""
    source: str

    def line(self, level: int) -> float:
        """Energy of one line of memory level 0 (register file), 1 (global buffer) or 2 (DRAM)."""
        return (self.rf_word, self.glb_line, self.dram_line)[level]


@dataclass(frozen=True)
class Machine:
    """Procrustes' 40 nm machine, configs/mapper/VGGN.yaml of the authors' simulator (procrustes.md 2.1)."""

    array_width: int = 16
    """PEs per row and per column of the array; every PE has one fp32 multiply-accumulate unit."""
    rf_words: int = 256
    """32-bit words in each PE's register file, shared by the three tensors (1 KiB)."""
    glb_words: int = 32768
    """32-bit words in the global buffer (128 KiB)."""
    word_bits: int = 32
    """Bits of a data word and of a word of mask bits."""
    line_words: tuple[int, int, int] = (1, 2, 2)
    """Words moved by one access at register file, global buffer and DRAM."""
    pointer_bits: int = 20
    """Bits of the pointer that precedes every compressed block."""

    @classmethod
    def scaled(cls, array_width: int) -> Machine:
        """The authors' scaling study: the global buffer grows with the array's width (`--glb_scaling`)."""
        if array_width not in (16, 32):
            raise SparseError(f"{array_width} PEs per side: the authors' machine is 16 or 32 wide")
        return cls(array_width=array_width, glb_words=32768 * array_width // 16)

    @property
    def pes(self) -> int:
        return self.array_width**2


def _pat_sram(kib: float, bits: int) -> float:
    """Timeloop's public PAT: 1 unit at 0.5 KiB rising linearly to 6 at 100 KiB for 16 bits, times the width."""
    return (1 + (kib - 0.5) * 5 / 99.5) * bits / 16


def _public(machine: Machine) -> EnergyTable:
    rf, glb = machine.rf_words * 4 / 1024, machine.glb_words * 4 / 1024
    return EnergyTable(
        "public", "16-bit multiplies", (machine.word_bits / 16) ** 2, _pat_sram(rf, 32), _pat_sram(glb, 64), 800.0,
        "PAT of the public Timeloop: multiplier (a/16)(b/16); SRAM 1 at 0.5 KiB to 6 at 100 KiB per 16 bits; DRAM 200"
        " per 16 bits; adders, wires and address generation 0 (the table of every reference record)",
    )  # fmt: skip


def _horowitz45(machine: Machine) -> EnergyTable:
    # The paper lists 64-bit reads of 8 KiB (10 pJ), 32 KiB (20 pJ) and 1 MiB (100 pJ): square-root growth, 3.53 pJ
    # per square-root KiB. Our two sizes are read off that curve; the smaller one lies below the listed range.
    root = 20 / math.sqrt(32)
    rf, glb = machine.rf_words * 4 / 1024, machine.glb_words * 4 / 1024
    return EnergyTable(
        "horowitz45", "pJ", 3.7 + 0.9, root * math.sqrt(rf) / 2, root * math.sqrt(glb), 1950.0,
        "M. Horowitz, Computing's energy problem, ISSCC 2014, 45 nm 0.9 V: fp32 multiply 3.7 + add 0.9; 64-bit cache"
        " reads of 10/20/100 pJ at 8 KiB/32 KiB/1 MiB (square root in the size, extrapolated to the register file);"
        " DRAM 1.3 to 2.6 nJ per 64 bits, its middle taken; all as later papers quote the talk",
    )  # fmt: skip


def _accelergy45(machine: Machine) -> EnergyTable:
    # The int16 scratchpad's 0.40 / 0.61 pJ (224 words) become 32-bit words by doubling; 108 KiB to ours linearly.
    glb = machine.glb_words * 4 / 1024
    return EnergyTable(
        "accelergy45", "pJ", 2.2 * 4, (0.40 + 0.61) / 2 * 2, 35.0 * glb / 108, 512.0,
        "Accelergy reference tables of the same group's fusion-timeloop-model, 45 nm int16: MAC 2.2 (x4 for 32 x 32"
        " bits), 224 x 16 b scratchpad read 0.40, write 0.61 (mean, x2 for 32 bits), 108 KiB buffer 35 per 64 bits"
        " (linear in size), LPDDR4 512 per 64 bits",
    )  # fmt: skip


def _eyeriss65(machine: Machine) -> EnergyTable:
    return EnergyTable(
        "eyeriss65", "16-bit MACs", 4.0, 2.0, 6.0 * 4, 200.0 * 4,
        "Y.-H. Chen et al., Eyeriss, ISCA 2016, table IV, 65 nm, per 16 bits relative to a MAC: register file 1, buffer"
        " 6, DRAM 200, as later papers quote it; words of 32 bits cost twice, an fp32 MAC four times",
    )  # fmt: skip


TABLES = {"public": _public, "horowitz45": _horowitz45, "accelergy45": _accelergy45, "eyeriss65": _eyeriss65}


def energy_table(choice: str, machine: Machine) -> EnergyTable:
    """A named table, or a JSON file with mac, rf_word, glb_line, dram_line, unit and source."""
    if choice in TABLES:
        return TABLES[choice](machine)
    path = Path(choice)
    if "\0" in choice or not path.is_file():
        raise SparseError(f"energy table {choice!r} is neither one of {', '.join(TABLES)} nor a JSON file")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise SparseError(f"energy table {path}: not JSON ({error}); see the fields of EnergyTable") from error
    from procosm.sparse.accelerator.schema import Prices, checked

    return EnergyTable(name=path.stem, **checked(Prices, raw, f"energy table {path}"))
