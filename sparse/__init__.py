"""Block-sparse training from the first step, after Procrustes (arXiv 2009.10976): numpy, torch and cupy only."""

from procosm.sparse import cost, matrix, nn
from procosm.sparse.convert import Conversion, convert, to_dense
from procosm.sparse.errors import SparseError
from procosm.sparse.matrix import BlockSparse
from procosm.sparse.memory import MemoryReport, memory_report

__all__ = [
    "BlockSparse",
    "Conversion",
    "MemoryReport",
    "SparseError",
    "convert",
    "cost",
    "matrix",
    "memory_report",
    "nn",
    "to_dense",
]
