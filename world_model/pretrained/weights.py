"""Weight files of published models: found, judged by their names and shapes, and mapped into memory, not read.

A folder of diffusers holds ``diffusion_pytorch_model.safetensors``, or several of them and an index that says what is
where. NVIDIA's own files are ``.pt`` (read without running code) or safetensors.
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, TypeVar

import torch
from pydantic import ConfigDict, Field
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from typing_extensions import TypedDict

from procosm.world_model import folders
from procosm.world_model.errors import CheckpointError
from procosm.world_model.files import write_json, write_tensors
from procosm.world_model.pretrained.config import RESTORE
from procosm.world_model.schema import read_file

M = TypeVar("M", bound=nn.Module)
STEM = "diffusion_pytorch_model"
MOST_BYTES = 5 * 10**9
"""Of one file; more are written as several with an index."""


class Index(TypedDict):
    """What is read of an index: which file holds each tensor."""

    __pydantic_config__ = ConfigDict(extra="allow", strict=True)  # type: ignore[misc]
    weight_map: Annotated[dict[str, Annotated[str, Field(pattern=r"^[^/\\]+\.safetensors$")]], Field(min_length=1)]


def find_weights(folder: Path) -> dict[str, Path] | Path:
    """The one weight file of a folder of diffusers, or the file of each tensor.

    Raises:
        CheckpointError: there is none, or one that the index names is missing.
    """
    single, index = folder / f"{STEM}.safetensors", folder / f"{STEM}.safetensors.index.json"
    if single.is_file():
        return single
    if not index.is_file():
        there = ", ".join(sorted(path.name for path in folder.iterdir())[:6]) if folder.is_dir() else "nothing"
        raise CheckpointError(
            f"{folder} holds neither {single.name} nor {index.name}, but {there or 'nothing'}: give the folder that "
            f"save_pretrained of diffusers writes, in safetensors, or {RESTORE}"
        )
    found = {name: folder / file for name, file in read_file(Index, index, RESTORE)["weight_map"].items()}
    missing = sorted({path.name for path in found.values() if not path.is_file()})
    if missing:
        raise CheckpointError(f"{index} names {', '.join(missing[:3])}, which {folder} does not hold: {RESTORE}")
    return found


def mapped(source: Path | Mapping[str, Path]) -> dict[str, Tensor]:
    """Tensors by name, of one safetensors file or several; their pages are read when they are used.

    Raises:
        CheckpointError: a file is missing, truncated or damaged, or lacks what the index says it holds.
    """
    if isinstance(source, Path):
        return _opened(source)
    tensors: dict[str, Tensor] = {}
    for path in sorted(set(source.values())):
        held, wanted = _opened(path), {name for name, file in source.items() if file == path}
        if held.keys() != wanted:
            raise CheckpointError(f"{path} {_differences(held, wanted)} by its index: {RESTORE}")
        tensors |= held
    return tensors


def _opened(path: Path) -> dict[str, Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, RuntimeError) as error:
        raise CheckpointError(f"{path} is missing, truncated or damaged ({error}): {RESTORE}") from error


def mapped_pt(path: Path) -> dict[str, Tensor]:
    """Tensors by name of one of NVIDIA's ``.pt`` files: weights alone, no code is run.

    Raises:
        CheckpointError: it is missing, damaged, or holds anything but tensors.
    """
    try:
        found: Any = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:  # torch raises what its readers do: zip, pickle, io and runtime errors
        raise CheckpointError(
            f"{path} is missing, damaged, or no file of weights alone ({error!s:.200}): {RESTORE}"
        ) from error
    for key in ("model", "module", "state_dict"):
        found = found[key] if isinstance(found, dict) and isinstance(found.get(key), dict) else found
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} holds a {type(found).__name__}, not weights by name: {RESTORE}")
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def fill(module: M, tensors: Mapping[str, Tensor], names: Mapping[str, str], where: Path) -> M:
    """Give a module, built on no device, its weights as they lie in the files; frozen, in eval mode.

    Args:
        tensors: by their published names. names: published name of each of the module's tensors, to its own.

    Raises:
        CheckpointError: a tensor is missing, unknown, of another shape or no float; by name.
    """
    if tensors.keys() != names.keys():
        raise CheckpointError(f"{where} {_differences(tensors, names)} by its config.json: {RESTORE}")
    expected = module.state_dict()
    for theirs, ours in names.items():
        tensor, shape = tensors[theirs], tuple(expected[ours].shape)
        if tuple(tensor.shape) != shape or not tensor.is_floating_point():
            raise CheckpointError(
                f"{where}: {theirs} is {tensor.dtype} {tuple(tensor.shape)}, floats {shape} by its config.json: "
                f"{RESTORE}"
            )
    module.load_state_dict({names[name]: tensor for name, tensor in tensors.items()}, assign=True)
    return module.requires_grad_(False).eval()


def _differences(found: Iterable[str], wanted: Iterable[str]) -> str:
    """What a file lacks and what it holds beside, the first of each by name."""
    lacking, unknown = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    told = [
        f"{word} {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
        for word, names in (("lacks", lacking), ("holds the unknown", unknown))
        if names
    ]
    return " and ".join(told)


def write_weights(
    folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor], most: int = MOST_BYTES
) -> None:
    """Write config.json and weights as ``save_pretrained`` of diffusers does, all of it or nothing.

    Args:
        config: what config.json holds. tensors: by their published names. most: bytes of one file.

    Raises:
        ProcosmError: the folder is not empty, or the disk does not take it.
    """
    folders.check_out(folder, lambda name: False)
    parts: list[dict[str, Tensor]] = [{}]
    held = 0
    for name, tensor in tensors.items():
        if parts[-1] and held + tensor.nbytes > most:
            parts.append({})
            held = 0
        parts[-1][name] = tensor
        held += tensor.nbytes
    files = {f"{STEM}-{i:05}-of-{len(parts):05}.safetensors": part for i, part in enumerate(parts, 1)}
    if len(parts) == 1:
        files = {f"{STEM}.safetensors": parts[0]}

    def write(staging: Path) -> None:
        for file, part in files.items():
            write_tensors(staging / file, part, {"format": "pt"})
        if len(parts) > 1:
            where = {name: file for file, part in files.items() for name in part}
            total = {"total_size": sum(tensor.nbytes for tensor in tensors.values())}
            write_json(staging / f"{STEM}.safetensors.index.json", {"metadata": total, "weight_map": where})
        write_json(staging / "config.json", json.loads(json.dumps(config)))

    folders.replace(folder, write)
