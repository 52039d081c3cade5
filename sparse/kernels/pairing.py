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
