"""Checks of what a log's table says, row by row; whatever is wrong is refused with its row."""

import numpy as np

from procosm.world_model.errors import DatasetError

UNITS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}
RATE_ERROR = 0.05
"""Share by which the usual time between two frames may differ from the rate that a source promises."""


def numbers(values: object, width: int | None, count: int | None, what: str, where: str) -> np.ndarray:
    """float32 (n, width), or (n,) for width None, of a column; every value finite in float32.

    Raises:
        DatasetError: the column is ragged, of another size or length, or a value in it is not finite; names the row.
    """
    try:
        array = np.asarray(values)
        if array.dtype == object:
            array = np.stack([np.asarray(row, np.float64) for row in array])
        wide = array.astype(np.float64)
    except (ValueError, TypeError) as error:
        raise DatasetError(f"{where}: {what} is no table of numbers ({error})") from error
    if width is not None and wide.ndim == 1 and width == 1:
        wide = wide[:, None]
    if wide.ndim != (1 if width is None else 2) or (width is not None and wide.shape[1] != width):
        raise DatasetError(f"{where}: {what} has the shape {wide.shape}, and should have {width or 1} numbers a row")
    if count is not None and len(wide) != count:
        raise DatasetError(f"{where}: {what} has {len(wide)} rows, and should have {count}")
    with np.errstate(over="ignore"):
        found = wide.astype(np.float32)
    wrong = ~np.isfinite(found).reshape(len(found), -1).all(1)
    if wrong.any():
        row = int(wrong.argmax())
        raise DatasetError(f"{where}: {what} of row {row} is {wide[row].tolist()}, not finite")
    return found


def seconds(stamps: np.ndarray, dt_s: float, where: str) -> np.ndarray:
    """Timestamps (n,) of any unit as seconds since the first, float64.

    The unit is the one in which the usual time between two frames is ``dt_s``.

    Raises:
        DatasetError: a stamp is not finite or not later than the one before, or no unit fits; names the row.
    """
    stamps = np.asarray(stamps, np.float64).reshape(-1)
    wrong = ~np.isfinite(stamps)
    if wrong.any():
        raise DatasetError(f"{where}: timestamp of row {int(wrong.argmax())} is not finite")
    steps = np.diff(stamps)
    if (steps <= 0).any():
        row = int((steps <= 0).argmax()) + 1
        raise DatasetError(f"{where}: timestamp of row {row} ({stamps[row]:g}) is not after the one before it")
    if not len(steps):
        return np.zeros(len(stamps))
    usual = float(np.median(steps))
    for scale in UNITS.values():
        if abs(usual * scale / dt_s - 1) <= RATE_ERROR:
            return (stamps - stamps[0]) * scale
    raise DatasetError(
        f"{where}: timestamps are {usual:g} apart, which is {1 / dt_s:g} frames per second in no unit "
        f"({', '.join(UNITS)}): give the rate of the recording"
    )


def check_clock(times_s: np.ndarray, dt_s: float, where: str) -> None:
    """Refuse a recording whose frames are not ``dt_s`` apart, within half of it.

    Raises:
        DatasetError: frames are missing or late; names the row.
    """
    wrong = np.abs(np.diff(times_s) / dt_s - 1) > 0.5
    if wrong.any():
        row = int(wrong.argmax())
        raise DatasetError(
            f"{where}: {times_s[row + 1] - times_s[row]:.4f} s lie between rows {row} and {row + 1}, and frames are "
            f"{dt_s:.4f} s apart: procosm curate cuts recordings at such gaps"
        )


def consecutive(indices: np.ndarray, where: str) -> None:
    """Refuse frame indices that are not 0, 1, 2, …

    Raises:
        DatasetError: names the first row that is not.
    """
    wrong = np.asarray(indices) != np.arange(len(indices))
    if wrong.any():
        row = int(wrong.argmax())
        raise DatasetError(f"{where}: frame_index of row {row} is {np.asarray(indices)[row]}: frames are missing")
