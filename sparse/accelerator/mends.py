"""The known defects of the authors' model, each with a switch that mends it (accelerator.md, last section)."""

from __future__ import annotations

from dataclasses import dataclass, fields

from procosm.sparse.errors import SparseError


@dataclass(frozen=True)
class Mends:
    """All off: the authors' model, quirks included. All on: the corrected model."""

    tiny_tiles: bool = False
    """Credit cycles saved also when a PE's sparse tile is one element or the whole tensor, or one PE is in use."""
    paid_overflow: bool = False
    """Charge, with balancing too, the overflow of tiles that cannot be split and of the global buffer."""
    sorting: bool = False
    """One line per start/end pointer pair in every phase, 1.5 unaligned (backward), and the comparator swaps."""
    sparse_writeback: bool = False
    """Write only the kept weights' gradients to DRAM in the weight update, with their masks and pointers."""
    gated_reads: bool = False
    """Read the second operand from the register file only for non-zero sparse elements."""
    wide_blocks: bool = False
    """At least one 32-bit word of mask per 20-bit pointer in DRAM (1x1 layers: 32 weights, not 1, per pointer)."""
    padded_array: bool = False
    """Round a spatial bound up when that fills the array better, instead of exact divisors only."""
    own_budget: bool = False
    """Measure global-buffer overflow against its own budget when the register file holds single elements."""
    exact_halo: bool = False
    """Move sliding windows back from their true last position instead of extrapolating from the second."""
    clipped_halo: bool = False
    """Do not fetch the zeros that padding adds around an image."""
    first_touch: bool = False
    """Do not fetch results that have not been begun."""
    strided_input: bool = False
    """Let the forward input of a strided layer span its true rows and columns."""

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(field.name for field in fields(cls))

    @classmethod
    def of(cls, *names: str) -> Mends:
        """Only the named mends."""
        for name in names:
            if name not in cls.names():
                raise SparseError(f"mend {name!r} is unknown; choose among {', '.join(cls.names())}")
        return cls(**dict.fromkeys(names, True))

    @property
    def active(self) -> tuple[str, ...]:
        return tuple(name for name in self.names() if getattr(self, name))


FAITHFUL = Mends()
CORRECTED = Mends.of(*Mends.names())
