"""A tokenizer on its own as a folder: config.json, tokenizer.safetensors, metrics.json, provenance.json.

A reader finds all of a save or nothing of it, see ``folders``. A whole world model's checkpoint has a tokenizer, too.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import torch
from pydantic import Field

from procosm.world_model import checkpoint, folders
from procosm.world_model.errors import CheckpointError, ProcosmError
from procosm.world_model.files import read_json, write_json, write_tensors
from procosm.world_model.interface import DiscreteTokenizer, Tokenizer
from procosm.world_model.precision import resolve_device
from procosm.world_model.schema import checked
from procosm.world_model.tokenizer.model import CausalTokenizer, TokenizerConfig
from procosm.world_model.weights import RESTORE, checksum, read_weights

FORMAT = 1
WEIGHTS = "tokenizer.safetensors"
FILES = {WEIGHTS, "config.json", "metrics.json", "provenance.json"}


@dataclass(frozen=True)
class Config:
    """What config.json holds."""

    part: Literal["tokenizer"]
    format: Annotated[int, Field(ge=1)]
    tokenizer: TokenizerConfig
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


def save(folder: Path, tokenizer: CausalTokenizer, metrics: Mapping[str, Any], provenance: Mapping[str, Any]) -> Path:
    """Write the tokenizer's folder; an older one counts until the new one is complete.

    Raises:
        ProcosmError: the folder holds anything but a tokenizer, or the disk does not take this one.
    """
    folders.check_out(folder, FILES.__contains__)

    def write(staging: Path) -> None:
        write_tensors(staging / WEIGHTS, tokenizer.state_dict())
        config = Config("tokenizer", FORMAT, tokenizer.config, checksum(staging / WEIGHTS))
        write_json(staging / "config.json", dataclasses.asdict(config))
        write_json(staging / "metrics.json", dict(metrics))
        write_json(staging / "provenance.json", dict(provenance))

    folders.replace(folder, write)
    return folder


def load(folder: Path, height: int, width: int, device: str | torch.device = "cpu") -> CausalTokenizer:
    """Open a tokenizer's folder for frames of this size, its weights frozen.

    Raises:
        CheckpointError: there is none, or it is damaged; which file, and what to do.
    """
    config = read_config(folder)
    try:
        with torch.device("meta"):  # to see, before any memory is taken, whether the weights fit
            expected = CausalTokenizer(config.tokenizer).state_dict()
    except (ValueError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"{folder}/config.json describes no tokenizer ({error}): {RESTORE}") from error
    tensors = read_weights(folders.find(folder, WEIGHTS), {WEIGHTS: config.sha256}, expected)
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # first weights are drawn, and replaced
        tokenizer = CausalTokenizer(config.tokenizer.sized(height, width))
    tokenizer.load_state_dict(tensors | {"mean_frame": tokenizer.mean_frame})
    return tokenizer.requires_grad_(False).eval().to(resolve_device(device))


def read_config(folder: Path) -> Config:
    """What stands in the config.json of a tokenizer's folder.

    Raises:
        CheckpointError: it is missing or damaged, or of another format.
    """
    path = folders.find(folder, "config.json")
    config: Config = checked(Config, read_json(path), str(path), RESTORE)
    if config.format != FORMAT:
        raise CheckpointError(f"{path} has format {config.format}, this version reads {FORMAT}: take a newer procosm")
    return config


@dataclass(frozen=True)
class Opened:
    """A tokenizer that is to code frames of some size.

    Attributes:
        sha256: checksum of its config and weights: levels, for one, are in no weight.
        height, width: what it codes, which may be more than was asked for: the rest is to be padded.
    """

    tokenizer: Tokenizer
    sha256: str
    height: int
    width: int

    def discrete(self) -> DiscreteTokenizer:
        """The tokenizer, which has a vocabulary."""
        return cast(DiscreteTokenizer, self.tokenizer)


def open_tokenizer(folder: Path, height: int, width: int, device: str | torch.device = "cpu") -> Opened:
    """The tokenizer in a folder of its own, or in a world model's checkpoint, for frames of this size.

    Raises:
        ProcosmError: there is none, it is damaged, or it is a world model's, whose frames have another size.
    """
    path = folders.find(folder, "config.json")
    if not path.exists():
        raise CheckpointError(
            f"no tokenizer at {folder}: train one with `procosm train-tokenizer --data DATA --out DIR`, or give a "
            "world model's checkpoint"
        )
    values = read_json(path)
    if isinstance(values, dict) and "task" in values:
        model = checkpoint.load(folder, device)
        seen = tuple(model.start_frames.shape[2:4])
        if seen != (height, width):
            raise ProcosmError(
                f"the tokenizer of {folder} codes frames of {seen[0]} x {seen[1]} pixels alone, not of {height} x "
                f"{width}: give one of `procosm train-tokenizer`, or scale the video"
            )
        return Opened(model.tokenizer, _identity(values, checksum(folders.find(folder, WEIGHTS))), height, width)
    config = read_config(folder)
    side = config.tokenizer.pixels_per_latent
    padded = (-(-height // side) * side, -(-width // side) * side)
    return Opened(load(folder, *padded, device), _identity(values, config.sha256), *padded)


def _identity(values: dict[str, Any], weights: str) -> str:
    """Of a tokenizer, from what its config.json says, as it stands there, and the checksum of its weights."""
    said = json.dumps([values["tokenizer"], weights], sort_keys=True)
    return hashlib.sha256(said.encode()).hexdigest()
