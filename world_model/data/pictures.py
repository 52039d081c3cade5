"""Single pictures, as PNG or JPEG in a table's cells."""

import io
import warnings

import numpy as np
from PIL import Image

from procosm.world_model.data.video import MOST_SIDE
from procosm.world_model.errors import DatasetError


def read_picture(cell: object, where: str) -> np.ndarray:
    """(H, W, 3) uint8 of a cell, ``{"bytes": …}`` or the bytes themselves.

    Raises:
        DatasetError: it holds no picture, or one too large.
    """
    content = cell.get("bytes") if isinstance(cell, dict) else cell
    if not isinstance(content, bytes):
        raise DatasetError(f"{where} holds no picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as picture:
                if max(picture.size) > MOST_SIDE:
                    raise DatasetError(f"{where} has {picture.size} pixels; at most {MOST_SIDE} a side can be read")
                return np.asarray(picture.convert("RGB"))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise DatasetError(f"{where} is damaged ({error})") from error
