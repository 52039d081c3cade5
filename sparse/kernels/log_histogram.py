"""Counts of scores by magnitude, 16 bins an octave, on the device: log_histogram.cu."""

import numpy as np
import torch
from torch import Tensor

from procosm.sparse.kernels import launch
from procosm.sparse.kernels.operands import check, readable

BINS = 4096


def log_histogram(scores: Tensor) -> Tensor:
    """int32 (4096,); see reference.log_histogram. Integer sums: the same in every run.

    Raises:
        SparseError: scores that are not float32, not contiguous, or not 16-byte aligned.
    """
    scores = readable(scores)
    check("scores", scores, tuple(scores.shape), torch.float32, scores)
    counts = torch.zeros(BINS, dtype=torch.int32, device=scores.device)
    grid = (min(-(-scores.numel() // 256), 264),)
    launch.run("log_histogram", grid, 256, (scores, counts, np.int64(scores.numel())))
    return counts
