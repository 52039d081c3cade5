"""Masks of the sparse operand: Bernoulli with a seed (the reference's own generator) or from a trained checkpoint."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from procosm.sparse.accelerator.problem import Layer, Problem
from procosm.sparse.errors import SparseError

_CHUNK = 1 << 22  # elements drawn at a time: keeps 64-bit temporaries at tens of megabytes


def bernoulli(shape: tuple[int, ...], density: float, seed: int = 0) -> np.ndarray:
    """Boolean mask filled row-major as std::bernoulli_distribution over std::mt19937 does (accelerator.md).

    Each element takes two 32-bit draws, low word first, and is kept when (low + high * 2^32) / 2^64 < density in
    double precision. The high word alone decides except within one step of the threshold.
    """
    if not 0 < density <= 1:
        raise SparseError(f"density {density} must lie in (0, 1]")
    if density == 1:
        return np.ones(shape, dtype=bool)
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

    A block-sparse layer NAME is stored as NAME.values [n, b, b], NAME.rows and NAME.cols int32 [n] in block
    coordinates, with "out,in" under the metadata key NAME.shape; zeros inside a kept block are stored, so they count
    as kept. Every other floating-point tensor with two to four dimensions is dense: its zeros are the mask.
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
        except SafetensorError as error:
            raise SparseError(f"masks: {path} is not a readable safetensors file: {error}") from error
    if not masks:
        raise SparseError(f"masks: {run} holds no weight with two to four dimensions")
    return masks


def _file_masks(archive, path: Path) -> dict[str, np.ndarray]:
    keys, metadata = set(archive.keys()), archive.metadata() or {}
    blocks = {key[: -len(".values")] for key in keys if key.endswith(".values") and f"{key[:-7]}.rows" in keys}
    masks: dict[str, np.ndarray] = {}
    for name in sorted(blocks):
        shape = metadata.get(f"{name}.shape")
        if shape is None:
            raise SparseError(f"masks: {path} has block-sparse {name} but no metadata key {name}.shape ('out,in')")
        rows, cols = (archive.get_tensor(f"{name}.{part}").long() for part in ("rows", "cols"))
        masks[name] = _block_mask(name, shape, archive.get_tensor(f"{name}.values").shape[-1], rows.numpy(), cols.numpy())
    for key in sorted(keys):
        if any(key.startswith(f"{name}.") and key[len(name) + 1 :] in ("values", "rows", "cols") for name in blocks):
            continue
        tensor = archive.get_tensor(key)
        if tensor.is_floating_point() and 2 <= tensor.dim() <= 4:
            masks[key.removesuffix(".weight")] = (tensor != 0).numpy()
    return masks


def _block_mask(name: str, shape: str, block: int, rows: np.ndarray, cols: np.ndarray) -> np.ndarray:
    try:
        out, inner = (int(part) for part in shape.split(","))
    except ValueError as error:
        raise SparseError(f"masks: {name}.shape is {shape!r}, expected 'out,in'") from error
    grid = np.zeros((math.ceil(out / block), math.ceil(inner / block)), dtype=bool)
    if rows.size and (rows.max() >= grid.shape[0] or cols.max() >= grid.shape[1] or min(rows.min(), cols.min()) < 0):
        raise SparseError(f"masks: {name} has a block outside its {grid.shape[0]}x{grid.shape[1]} grid")
    grid[rows, cols] = True
    return np.kron(grid, np.ones((block, block), dtype=bool))[:out, :inner]


def layer_mask(layer: Layer, mask: np.ndarray) -> np.ndarray:
    """Turn a torch weight mask ([K, C] or [K, C/groups, R, S]) into the model's [R, S, C, K] ([R, S, C] depthwise)."""
    four = mask.reshape(*mask.shape, *(1,) * (4 - mask.ndim))
    if layer.filters is None:
        want: tuple[int, ...] = (layer.channels, 1, layer.rows, layer.columns)
        ordered = four.transpose(2, 3, 0, 1)[..., 0]
    else:
        want = (layer.filters, layer.channels, layer.rows, layer.columns)
        ordered = four.transpose(2, 3, 1, 0)
    if four.shape != want:
        raise SparseError(f"masks: layer {layer.name!r} needs a mask of shape {want}, the run has {mask.shape}")
    if not mask.any():
        raise SparseError(f"masks: layer {layer.name!r} has no weight left; the model needs at least one")
    return np.ascontiguousarray(ordered)

