"""Files of latents: what they hold, and the parts they are made of until they are whole.

A video is coded in windows of 1 + 8 k frames, each by itself, so that memory does not grow with its length and a killed
command goes on with the window it was at. A file (safetensors) holds ``latents``, float16 (n, c, h, w), or ``tokens``,
(n, h, w) of the smallest whole numbers that hold them; all windows one after another.
"""

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Interval
from safetensors import SafetensorError, safe_open
from torch import Tensor

from procosm.sparse import strict
from procosm.world_model.data.video_stream import MOST_SIDE
from procosm.world_model.errors import DatasetError, ProcosmError
from procosm.world_model.files import read_json, read_tensors, write_json, write_tensors
from procosm.world_model.interface import LatentSpec

GROUPS = 8
"""Latents of a window after its first."""
FORMAT = 1
DTYPES = {"latents": (torch.float16,), "tokens": (torch.uint16, torch.int32)}
AGAIN = "make it again with `procosm encode`, or restore it from a copy"
Side = Annotated[int, Interval(ge=1, le=MOST_SIDE)]


@dataclass(frozen=True)
class Coded:
    """What a file of latents says of itself.

    Attributes:
        frames, height, width: of the video. dt_s: seconds between two of its frames.
        frames_per_latent: of the tokenizer.
        tokenizer, video: checksums, of the former its config and weights.
    """

    format: Annotated[int, Interval(ge=1, le=FORMAT)]
    frames: Annotated[int, Interval(ge=1, le=10**9)]
    height: Side
    width: Side
    dt_s: Annotated[float, Interval(gt=0, le=1e6)]
    frames_per_latent: Annotated[int, Interval(ge=1, le=64)]
    tokenizer: str
    video: str

    @property
    def window(self) -> int:
        """Frames of a window; after the last frame of a video it is repeated until the last window is full."""
        return 1 + GROUPS * self.frames_per_latent

    @property
    def windows(self) -> int:
        return -(-self.frames // self.window)


def stored(latents: Tensor, tokens: Tensor | None) -> dict[str, Tensor]:
    """What a file holds of one window: standardised latents (1, n, c, h, w), or tokens (1, n, h, w) where there are."""
    if tokens is None:
        return {"latents": latents[0].half().cpu()}
    return {"tokens": tokens[0].to(torch.uint16 if int(tokens.max()) < 2**16 else torch.int32).cpu()}


def write_coded(path: Path, coded: Coded, parts: list[dict[str, Tensor]]) -> None:
    """Write the windows of a whole video as one file."""
    joined = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    write_tensors(path, joined, {"procosm": json.dumps(asdict(coded))})


def read_about(path: Path) -> Coded:
    """What a file of latents says of itself.

    Raises:
        DatasetError: it is missing, damaged, or no such file.
    """
    if not path.exists():
        raise DatasetError(f"there is no {path}: {AGAIN}")
    try:
        with safe_open(path, framework="pt") as file:
            said = (file.metadata() or {}).get("procosm", "")
        return strict.read(Coded, json.loads(said))
    except (SafetensorError, OSError, ValueError, RecursionError, strict.Wrong) as error:
        raise DatasetError(f"{path} is no file of latents, or a damaged one ({error}): {AGAIN}") from error


def read_coded(path: Path, coded: Coded, spec: LatentSpec) -> Tensor:
    """The latents (n, c, h, w), or tokens (n, h, w), of a file, as float32 or int64.

    Raises:
        DatasetError: they are not as many or not as large as the video is.
    """
    name, shape = ("tokens", spec.shape[1:]) if spec.vocabulary else ("latents", spec.shape)
    expected = (coded.windows * (1 + GROUPS), *shape)
    tensors = read_tensors(path, AGAIN)
    found = {key: (tensor.dtype, tuple(tensor.shape)) for key, tensor in tensors.items()}
    if found not in [{name: (dtype, expected)} for dtype in DTYPES[name]]:
        raise DatasetError(f"{path} holds {found}, where {coded.frames} frames have {name} of {expected}: {AGAIN}")
    values = tensors[name].long() if spec.vocabulary else tensors[name].float()
    if not values.isfinite().all():
        raise DatasetError(f"{path} holds latents that are no finite numbers: {AGAIN}")
    return values


class Parts:
    """A folder beside a file that is being made: its parts, and what they are parts of.

    Raises:
        ProcosmError: there are parts of another work there.
    """

    def __init__(self, out: Path, work: dict[str, Any]) -> None:
        self.folder = out.with_name(out.name + ".parts")
        self.advice = f"delete {self.folder}, and run the same command again"
        record = self.folder / "work.json"
        if record.exists() and (there := read_json(record, self.advice)) != work:
            differing = [key for key in work if not isinstance(there, dict) or there.get(key) != work[key]]
            raise ProcosmError(
                f"{self.folder} holds parts of another work (other {', '.join(differing)}): finish that with its own "
                "settings, give another --out, or delete the folder"
            )
        write_json(record, work)

    def path(self, index: int, suffix: str) -> Path:
        """Of a part."""
        return self.folder / f"{index:06d}{suffix}"

    def remove(self) -> None:
        """Once the whole is written."""
        shutil.rmtree(self.folder)
