"""The operations of reference.py as CUDA kernels: NAME.cu computes, NAME.py checks the operands and launches it."""

from procosm.sparse.kernels.adam import adam
from procosm.sparse.kernels.block_norms import block_norms
from procosm.sparse.kernels.data_gradient import data_gradient
from procosm.sparse.kernels.forward import forward
from procosm.sparse.kernels.log_histogram import log_histogram
from procosm.sparse.kernels.pairing import pair_rows
from procosm.sparse.kernels.sgd import sgd
from procosm.sparse.kernels.weight_gradient import weight_gradient

__all__ = [
    "adam",
    "block_norms",
    "data_gradient",
    "forward",
    "log_histogram",
    "pair_rows",
    "sgd",
    "weight_gradient",
]
