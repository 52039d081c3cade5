"""Masks of the sparse operand: Bernoulli with a seed (the reference's own generator) or from a trained checkpoint."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from procosm.sparse.accelerator.problem import Layer, Problem
from procosm.sparse.errors import SparseError

MOST_ELEMENTS = 2**28
"""Of one mask, a byte each."""
_CHUNK = 1 << 22  # elements drawn at a time: keeps 64-bit temporaries at tens of megabytes


@lru_cache(maxsize=2)  # one layer's mask serves every dataflow; cases of a layer are run one after another
def bernoulli(shape: tuple[int, ...], density: float, seed: int = 0) -> np.ndarray:
    """Boolean mask filled row-major as std::bernoulli_distribution over std::mt19937 does (accelerator.md).

    Each element takes two 32-bit draws, low word first, and is kept when (low + high * 2^32) / 2^64 < density in
    double precision. The high word alone decides except within one step of the threshold. The array is read-only.
    """
    if not 0 < density <= 1:
        raise SparseError(f"density {density} must lie in (0, 1]")
    if density == 1:
        return np.broadcast_to(np.True_, shape)
    bits = np.random.MT19937()
    bits._legacy_seeding(seed)
    draws = np.random.Generator(bits)
    mask = np.empty(math.prod(shape), dtype=bool)
    threshold = int(density * 2**32)
    for start in range(0, mask.size, _CHUNK):
        size = min(_CHUNK, mask.size - start)
        words = draws.integers(0, 2**32, 2 * size, dtype=np.uint32)  # the full range passes raw words through
        low, high = words[0::2], words[1::2]
        part = high < threshold
        near = np.flatnonzero((high >= max(threshold - 1, 0)) & (high <= threshold + 1))
        part[near] = (low[near].astype(float) + high[near].astype(float) * 2.0**32) / 2.0**64 < density
        mask[start : start + size] = part
    mask.flags.writeable = False
    return mask.reshape(shape)


def problem_mask(problem: Problem, density: float, seed: int = 0) -> np.ndarray:
    """Bernoulli mask of a problem's sparse operand; positions added by spatial padding are zero."""
    if not problem.work or problem.work == problem.bounds:
        return bernoulli(problem.mask_shape, density, seed)
    inner = tuple(problem.work[dim] for dim in problem.sparse_dims)
    return _zero_extended(bernoulli(inner, density, seed), problem)


def weight_mask(problem: Problem, weights: np.ndarray) -> np.ndarray:
    """A layer's [R, S, C, K] (depthwise [R, S, C]) mask in the order a forward or backward problem needs."""
    return _zero_extended(weights, problem)


def _zero_extended(mask: np.ndarray, problem: Problem) -> np.ndarray:
    extra = [(0, want - have) for want, have in zip(problem.mask_shape, mask.shape, strict=True)]
    return np.pad(mask, extra) if any(after for _, after in extra) else mask


def checkpoint_masks(run: Path) -> dict[str, np.ndarray]:
    """Boolean masks, in torch's weight layout, of every weight in the *.safetensors of a file or folder.

    A block-sparse layer NAME (sparse.nn) is stored as NAME.values [n, b, b], NAME.rows and NAME.cols int32 [n] in
    block coordinates, and its (out, in) as the tensor NAME.shape or "out,in" under the metadata key NAME.shape; zeros
    inside a kept block are stored, so they count as kept. Every other floating-point tensor with two to four
    dimensions is dense: its zeros are the mask.
    """
    from safetensors import SafetensorError, safe_open

    files = [run] if run.is_file() else sorted(run.rglob("*.safetensors"))
    if not files:
        raise SparseError(f"masks: {run} holds no *.safetensors file; give a training run or one such file")
    masks: dict[str, np.ndarray] = {}
    for path in files:
        try:
            with safe_open(path, framework="pt") as archive:
                masks |= _file_masks(archive, path)
        except (SafetensorError, OSError, KeyError, RuntimeError) as error:
            raise SparseError(f"masks: {path} is not a readable safetensors file: {error}") from error
    if not masks:
        raise SparseError(f"masks: {run} holds no weight with two to four dimensions")
    return masks


def _file_masks(archive: Any, path: Path) -> dict[str, np.ndarray]:
    keys, metadata = set(archive.keys()), archive.metadata() or {}
    blocks = {key[: -len(".values")] for key in keys if key.endswith(".values") and f"{key[:-7]}.rows" in keys}
    masks: dict[str, np.ndarray] = {}
    for name in sorted(blocks):
        shape = _stored_shape(name, archive, keys, metadata, path)
        masks[name] = _block_mask(name, shape, *_stored_blocks(name, archive, keys))
    own = {f"{name}.{part}" for name in blocks for part in ("values", "rows", "cols", "shape")}
    for key in sorted(keys - own):
        tensor = archive.get_tensor(key)
        if tensor.is_floating_point() and 2 <= tensor.dim() <= 4:
            if tensor.isnan().any():
                raise SparseError(f"masks: {key} of {path} holds NaN, which is neither zero nor a weight")
            masks[key.removesuffix(".weight")] = (tensor != 0).numpy()
    return masks


def _stored_blocks(name: str, archive: Any, keys: set[str]) -> tuple[int, np.ndarray, np.ndarray]:
    """Side of the blocks, and the row and column of each that lives."""
    import torch

    values = archive.get_tensor(f"{name}.values")
    places = [archive.get_tensor(f"{name}.{part}") for part in ("rows", "cols") if f"{name}.{part}" in keys]
    square = values.dim() == 3 and values.is_floating_point() and values.shape[1] == values.shape[2] > 0
    listed = [place.dtype in (torch.int32, torch.int64) and place.shape == values.shape[:1] for place in places]
    if not square or listed != [True, True]:
        raise SparseError(f"masks: {name} needs values [n, b, b], rows [n] and cols [n] of integers")
    if values.isnan().any():
        raise SparseError(f"masks: {name}.values holds NaN, which is neither zero nor a weight")
    return values.shape[-1], places[0].long().numpy(), places[1].long().numpy()


def _stored_shape(name: str, archive: Any, keys: set[str], metadata: dict[str, str], path: Path) -> tuple[int, int]:
    text = metadata.get(f"{name}.shape")
    stored = archive.get_tensor(f"{name}.shape").tolist() if f"{name}.shape" in keys else (text or "").split(",")
    try:
        out, inner = (operator.index(int(part) if isinstance(part, str) else part) for part in stored)
    except (TypeError, ValueError) as error:
        raise SparseError(
            f"masks: {path} stores block-sparse {name} without its (out, in) under {name}.shape"
        ) from error
    if not (out > 0 and inner > 0 and out * inner <= MOST_ELEMENTS):
        raise SparseError(f"masks: {path} says that {name} is {out} by {inner}: from 1 to {MOST_ELEMENTS:,} in all")
    return out, inner


def _block_mask(name: str, shape: tuple[int, int], block: int, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    out, inner = shape
    grid = np.zeros((math.ceil(out / block), math.ceil(inner / block)), dtype=bool)
    if rows.size and (rows.max() >= grid.shape[0] or cols.max() >= grid.shape[1] or min(rows.min(), cols.min()) < 0):
        raise SparseError(f"masks: {name} has a block outside its {grid.shape[0]}x{grid.shape[1]} grid")
    grid[rows, cols] = True
    return np.kron(grid, np.ones((block, block), dtype=bool))[:out, :inner]


def match(layers: Sequence[Layer], masks: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Masks by layer name: equal names first, then names that end in ".layer", then shapes in the checkpoint's order.

    Layers nothing fits are left out; SparseError when no layer finds a mask.
    """
    found: dict[str, np.ndarray] = {}
    left = dict(masks)
    for fits in (
        lambda layer, key: key == layer.name,
        lambda layer, key: key.endswith(f".{layer.name}"),
        lambda *_: True,
    ):
        for layer in layers:
            if layer.name in found:
                continue
            key = next((k for k, mask in left.items() if fits(layer, k) and _fits(layer, mask)), None)
            if key is not None:
                found[layer.name] = layer_mask(layer, left.pop(key))
    if not found:
        raise SparseError("masks: no weight of the run has the shape of a layer of this network; the run holds "
                          + ", ".join(f"{key} {mask.shape}" for key, mask in list(masks.items())[:5]))  # fmt: skip
    return found


def _fits(layer: Layer, mask: np.ndarray) -> bool:
    return layer.repeats == 1 and mask.shape in _layouts(layer)


def _layouts(layer: Layer) -> tuple[tuple[int, ...], ...]:
    """Shapes a layer's weight may have: torch's, without trailing ones, or (out, rows * columns * in) of sparse.nn."""
    k, c, r, s = layer.filters, layer.channels, layer.rows, layer.columns
    if k is None:
        return ((c, 1, r, s), (c, 1, s)) if r == 1 else ((c, 1, r, s),)
    plain = ((k, c, r, s), (k, r * s * c))
    return (*plain, (k, c, s)) if r == 1 else plain


def layer_mask(layer: Layer, mask: np.ndarray) -> np.ndarray:
    """Turn a weight mask ([K, C, R, S], [K, R * S * C], depthwise [C, 1, R, S]) into [R, S, C, K] ([R, S, C])."""
    if mask.shape not in _layouts(layer):
        raise SparseError(
            f"masks: layer {layer.name!r} needs a mask of shape {_layouts(layer)[0]}, the run has {mask.shape}"
        )
    if not mask.any():
        raise SparseError(f"masks: layer {layer.name!r} has no weight left; the model needs at least one")
    r, s, c, k = layer.rows, layer.columns, layer.channels, layer.filters
    if k is None:
        ordered: np.ndarray = mask.reshape(c, r, s).transpose(1, 2, 0)
    elif mask.ndim == 2:
        ordered = mask.reshape(k, r, s, c).transpose(1, 2, 3, 0)
    else:
        ordered = mask.reshape(k, c, r, s).transpose(2, 3, 1, 0)
    return np.ascontiguousarray(ordered)
