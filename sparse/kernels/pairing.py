"""Half-tile load balancing (Procrustes, arXiv 2009.10976): each CTA gets a heavy and a light block row."""

import torch
from torch import Tensor


def pair_rows(row_ptr: Tensor) -> Tensor:
    """int32 (ceil(G / 2), 2): rows sorted by their number of blocks, the i-th paired with the i-th from the end.

    The middle row of an odd number is alone: its partner is -1. ``row_ptr`` (G + 1,) may as well point at columns.
    No host synchronisation.
    """
    order = torch.argsort(row_ptr.diff(), descending=True, stable=True).to(torch.int32)
    half = (order.numel() + 1) // 2
    light = order.flip(0)[:half].clone()
    if order.numel() % 2:
        light[-1:] = -1
    return torch.stack([order[:half], light], 1)


def imbalance(row_ptr: Tensor, pairs: Tensor) -> tuple[float, float]:
    """max / mean of the blocks per CTA: one row a CTA, and one pair a CTA. 1.0 is perfect balance."""
    lengths = row_ptr.diff().float()
    paired = torch.where(pairs >= 0, lengths[pairs.clamp(min=0).long()], 0.0).sum(1)
    row, pair = (float(work.max() / work.mean()) if work.any() else 1.0 for work in (lengths, paired))  # synchronize!
    return row, pair
