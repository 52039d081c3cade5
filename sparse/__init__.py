"""Block-sparse training from the first step, after Procrustes (arXiv 2009.10976), on torch and NumPy; CuPy on a GPU."""

from procosm.sparse import averaging as averaging  # teaches torch's AveragedModel where blocks lie
from procosm.sparse import cost, matrix, nn, optim
from procosm.sparse.baselines import make
from procosm.sparse.convert import Conversion, convert, to_dense
from procosm.sparse.dropback import Procrustes, ProcrustesConfig
from procosm.sparse.errors import SparseError
from procosm.sparse.matrix import BlockSparse
from procosm.sparse.memory import MemoryReport, memory_report
from procosm.sparse.optimizer import DropBack, DropBackConfig
from procosm.sparse.timing import measure

__all__ = [
    "BlockSparse",
    "Conversion",
    "DropBack",
    "DropBackConfig",
    "MemoryReport",
    "Procrustes",
    "ProcrustesConfig",
    "SparseError",
    "convert",
    "cost",
    "make",
    "matrix",
    "measure",
    "memory_report",
    "nn",
    "optim",
    "to_dense",
]
