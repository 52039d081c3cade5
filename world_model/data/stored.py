"""Arrays of an HDF5 file that is nobody's promise: looked at by their headers before any memory is asked for."""

import math

import h5py
import numpy as np

from procosm.world_model.errors import DatasetError

RATIOS = {h5py.h5z.FILTER_LZF: 96, h5py.h5z.FILTER_DEFLATE: 1100}
"""How many times smaller each filter can make an array at most."""
SAME_SIZE = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_FLETCHER32)
"""Filters that make nothing smaller."""
LAYOUTS = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS, h5py.h5d.CHUNKED)


def member(group: h5py.Group, path: str) -> h5py.h5d.DatasetID:
    """An array of a group by its path; nothing that lies elsewhere, in this file or in another.

    Raises:
        DatasetError: it is a link, or there is none.
    """
    names, here = path.split("/"), group.id
    for position, name in enumerate(names):
        if not here.links.exists(name.encode()):
            raise DatasetError(f"{path} is missing")
        if here.links.get_info(name.encode()).type != h5py.h5l.TYPE_HARD:
            raise DatasetError(f"{path} is a link to elsewhere")
        if position + 1 < len(names):
            here = h5py.h5g.open(here, name.encode())
    return h5py.h5d.open(here, names[-1].encode())


def checked(group: h5py.Group, path: str, shape: tuple[int, ...], dtype: type) -> h5py.h5d.DatasetID:
    """An array of a group, not read yet, which must have this shape and kind.

    Raises:
        DatasetError: it has not, or its header says more than what the file holds of it can be.
    """
    stored = checked_any(group, path)
    if stored.shape != shape or stored.dtype != dtype:
        raise DatasetError(f"{path} is {stored.dtype} {stored.shape}, where the task has {np.dtype(dtype)} {shape}")
    if stored.get_create_plist().get_nfilters() > 1:
        raise DatasetError(f"{path} is stored in a way that no dataset of ours is")
    return stored


def rows_together(stored: h5py.h5d.DatasetID) -> int:
    """How many rows of an array are compressed together, and can only be read together."""
    settings = stored.get_create_plist()
    return settings.get_chunk()[0] if settings.get_layout() == h5py.h5d.CHUNKED else stored.shape[0]


def read(group: h5py.Group, path: str, shape: tuple[int, ...], dtype: type) -> np.ndarray:
    """An array of a group, which must have this shape and kind.

    Raises:
        DatasetError: it has not, its header says more than the file can hold, or it holds what is no finite number.
    """
    values = _values(checked(group, path, shape, dtype))
    if np.dtype(dtype).kind == "f" and not np.isfinite(values).all():
        raise DatasetError(f"{path} holds values that are no finite numbers")
    return values


def read_any(group: h5py.Group, path: str) -> np.ndarray:
    """An array of numbers of a group, of any shape.

    Raises:
        DatasetError: it holds none, or its header says more than what the file holds of it can be.
    """
    return _values(checked_any(group, path))


def checked_any(group: h5py.Group, path: str) -> h5py.h5d.DatasetID:
    """The same, not read yet."""
    stored = member(group, path)
    if stored.dtype.kind not in "biuf" or stored.shape is None:
        raise DatasetError(f"{path} is {stored.dtype}, no array of numbers")
    settings, need = stored.get_create_plist(), math.prod(stored.shape) * stored.dtype.itemsize
    filters = [settings.get_filter(index)[0] for index in range(settings.get_nfilters())]
    packed = [each for each in filters if each not in SAME_SIZE]
    layout = settings.get_layout()
    if layout not in LAYOUTS or settings.get_external_count() or len(packed) > 1 or not set(packed) <= set(RATIOS):
        raise DatasetError(f"{path} is stored in a way that is not read here: another file, or another compression")
    chunk = math.prod(settings.get_chunk()) * stored.dtype.itemsize if layout == h5py.h5d.CHUNKED else 0
    most = stored.get_storage_size() * math.prod(RATIOS[each] for each in packed) + 4096
    if max(need, chunk) > most:
        raise DatasetError(f"{path} says that it has {need:,} bytes, and the file holds at most {most:,} of it")
    return stored


def _values(stored: h5py.h5d.DatasetID) -> np.ndarray:
    values: np.ndarray = np.empty(stored.shape, stored.dtype)
    stored.read(h5py.h5s.ALL, h5py.h5s.ALL, values)
    return values
