"""How large the machine is and what it draws, as far as public numbers reach; what they do not reach is named."""

from __future__ import annotations

from collections.abc import Sequence

from procosm.sparse.accelerator.machine import EnergyTable, Machine
from procosm.sparse.accelerator.network import Result, Total

MAC_MM2, GLB_MM2_PER_KIB = 1240e-6, 1.03 / 108
AREA_SOURCE = (
    "Accelergy reference tables of the same group's fusion-timeloop-model, 45 nm: 16-bit integer MAC 1240 square"
    " micrometres, 108 KiB global buffer 1.03 square millimetres (linear in size)"
)
UNKNOWN = ("fp32 in place of 16-bit integer units", "register files", "network", "quantile and weight-recompute units")
"""What no public number tells the area of."""


def area_mm2(machine: Machine) -> dict[str, float]:
    """Square millimetres of the parts with a public number, at 45 nm: a lower bound of the machine."""
    kib = machine.glb_words * machine.word_bits / 8 / 1024
    return {"MACs": machine.pes * MAC_MM2, "global buffer": kib * GLB_MM2_PER_KIB}


def watts_per_100_mhz(results: Sequence[Result], table: EnergyTable) -> dict[str, float] | None:
    """Mean power of a training step, dense and sparse, for each 100 MHz of clock, DRAM's included; None for tables that
    are not in pJ. The clock of the paper is not public.
    """
    if table.unit != "pJ":
        return None
    total = Total.of(results)
    pairs = {"dense": (total.dense, total.dense_cycles), "sparse": (total.balanced, total.balanced_cycles)}
    return {name: energy / cycles * 1e-12 * 1e8 for name, (energy, cycles) in pairs.items()}


def text(results: Sequence[Result], machine: Machine, table: EnergyTable) -> str:
    """Two printed lines."""
    area = area_mm2(machine)
    told = ", ".join(f"{part} {value:.2f} mm2" for part, value in area.items())
    power = watts_per_100_mhz(results, table)
    drawn = (
        f"{power['dense']:.2f} W dense, {power['sparse']:.2f} W sparse for each 100 MHz of clock, DRAM included"
        if power
        else f"not told in {table.unit}: --energy-table accelergy45 or horowitz45 is in pJ"
    )
    return f"area at 45 nm: {told}; no public number for {', '.join(UNKNOWN)}\npower: {drawn}"
