"""The descriptor a bulk tensor copy reads: which matrix, which box of it, how it lies in shared memory."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.errors import SparseError

WIDE = 64


@dataclass(frozen=True)
class Boxes:
    """A 16-bit tensor as a matrix (rows, columns of its last dimension), copied in boxes of ``height`` rows by 64.

    In shared memory each row of a box takes 128 bytes, its 16-byte units permuted by the 128-byte swizzle. Reading
    outside the matrix gives zeros, writing outside does nothing.
    """

    tensor: Tensor
    height: int

    @property
    def size(self) -> tuple[int, int]:
        """(rows, columns)."""
        return self.tensor.numel() // self.tensor.shape[-1], self.tensor.shape[-1]


def encode(boxes: Boxes) -> np.ndarray:
    """The 128 bytes of the CUtensorMap, uint64 (16,). Needs the CUDA driver; touches no stream."""
    rows, columns = boxes.size
    return _encode(boxes.tensor.data_ptr(), rows, columns, boxes.height, boxes.tensor.dtype)


@lru_cache(maxsize=4096)
def _encode(pointer: int, rows: int, columns: int, height: int, dtype: torch.dtype) -> np.ndarray:
    from cuda.bindings import driver

    kinds = driver.CUtensorMapDataType
    status, encoded = driver.cuTensorMapEncodeTiled(
        kinds.CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 if dtype == torch.bfloat16 else kinds.CU_TENSOR_MAP_DATA_TYPE_FLOAT16,
        2,
        pointer,
        [driver.cuuint64_t(columns), driver.cuuint64_t(rows)],
        [driver.cuuint64_t(columns * 2)],  # bytes from row to row; the contiguous dimension has none
        [driver.cuuint32_t(WIDE), driver.cuuint32_t(height)],
        [driver.cuuint32_t(1), driver.cuuint32_t(1)],
        driver.CUtensorMapInterleave.CU_TENSOR_MAP_INTERLEAVE_NONE,
        driver.CUtensorMapSwizzle.CU_TENSOR_MAP_SWIZZLE_128B,
        driver.CUtensorMapL2promotion.CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
        driver.CUtensorMapFloatOOBfill.CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
    )
    if status != driver.CUresult.CUDA_SUCCESS:
        raise SparseError(f"the driver refused a tensor map of {rows} x {columns} {dtype} at {pointer:#x}: {status}")
    return np.array([int(word) for word in encoded.opaque], np.uint64)
