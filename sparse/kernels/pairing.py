"""Half-tile load balancing (Procrustes, arXiv 2009.10976): each CTA gets a heavy and a light block row."""

import torch
from torch import Tensor

MOST_KEPT = 4096
_kept: dict[tuple[torch.device, int, int, int], tuple[int, Tensor]] = {}


def pairs_of(row_ptr: Tensor) -> Tensor:
    """``pair_rows``, worked out again only when the pattern has changed: sorting takes longer than a small product.

    Any pairing of so many rows is right, an old one merely balances less. So memory that another pattern has taken over
    does no harm, nor does a CUDA graph that goes on reading a pairing: it is renewed in place and never given back.
    Each stream has its own, and none is kept that a graph would compute at its replay.
    """
    stream = torch.cuda.current_stream(row_ptr.device).cuda_stream if row_ptr.is_cuda else 0
    key = (row_ptr.device, row_ptr.data_ptr(), row_ptr.numel(), stream)
    version = 0 if row_ptr.is_inference() else row_ptr._version
    found = _kept.get(key)
    recording = row_ptr.is_cuda and torch.cuda.is_current_stream_capturing()
    if found is not None and (recording or found[0] == version):
        return found[1]
    pairs = pair_rows(row_ptr)
    if recording or (found is None and len(_kept) >= MOST_KEPT):
        return pairs
    pairs = pairs if found is None else found[1].copy_(pairs)
    _kept[key] = (version, pairs)
    return pairs


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
