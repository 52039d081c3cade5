"""Writing that is either done or not: no reader ever sees half a file."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

from procosm.world_model.errors import CheckpointError, ProcosmError

Kept = TypeVar("Kept")


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` in one go: a temporary file beside it, flushed to disk, renamed."""
    _replace(path, len(content), lambda temporary: temporary.write_bytes(content))


def _replace(path: Path, size: int, write: Callable[[Path], object]) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        Path(os.path.realpath(path.parent)).mkdir(parents=True, exist_ok=True)  # links may lead to what is not there
        write(temporary)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, safetensors.SafetensorError) as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise ProcosmError(
            f"cannot write {path} ({size / 1e6:.1f} MB): {getattr(error, 'strerror', None) or error}. What was there "
            "before is untouched; free some space, or write to another folder, and run the same command again"
        ) from error


def write_json(path: Path, value: Any) -> None:
    """Replace ``path`` by a JSON value in one go.

    Raises:
        ProcosmError: a number in it is not finite, for JSON has no such numbers: what has no value is None, beside a
            reason; or the disk does not take it.
    """
    try:
        text = json.dumps(value, indent=2, allow_nan=False)
    except ValueError as error:
        raise ProcosmError(f"{path} is not written: a number in it is not finite ({error})") from error
    write_bytes(path, (text + "\n").encode())


def write_tensors(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors of any device as safetensors, from where they lie: no copy of all of them is made."""
    stored = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    size = sum(tensor.nbytes for tensor in stored.values())

    def write(temporary: Path) -> None:
        temporary.touch()
        mode = temporary.stat().st_mode
        safetensors.torch.save_file(stored, temporary, metadata)
        temporary.chmod(mode)  # as any file that this process makes; safetensors keeps its own from others

    _replace(path, size, write)


def read_json(path: Path, advice: str = "make it again, or restore it from a copy") -> Any:
    """A JSON file's value; ``advice`` says what to do about a damaged one.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_without_repeats)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist: is {path.parent} the folder of a finished run?") from error
    except (OSError, ValueError, RecursionError) as error:  # a folder; no UTF-8, no JSON, a number of 5,000 digits
        raise CheckpointError(f"{path} is damaged ({error}): {advice}") from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a key stands twice among {', '.join(key for key, _ in pairs)[:200]}")
    return found


def sha256(path: Path) -> str:
    """Of a file's content, in hexadecimal digits; never all of it in memory.

    Raises:
        CheckpointError: it is missing, or cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): give a file that is there") from error


def digest(module: nn.Module) -> str:
    """Of all that a module holds, in hexadecimal digits; another one whenever a number in it is."""
    found = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()[:16]


def read_tensors(path: Path, advice: str = "restore it, or train again") -> dict[str, Tensor]:
    """A safetensors file's tensors, mapped into memory; ``advice`` says what to do about a damaged one.

    A page of the file is read when it is first needed, and may be forgotten again; what is written to a tensor stays
    with this process.

    Raises:
        CheckpointError: it is missing or damaged.
    """
    try:
        return safetensors.torch.load_file(path)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} does not exist: is {path.parent} the folder of a finished run?") from error
    except (safetensors.SafetensorError, OSError, ValueError, KeyError, RuntimeError) as error:
        raise CheckpointError(f"{path} is truncated or damaged ({error}): {advice}") from error


def under(prefix: str, tensors: Mapping[str, Kept]) -> dict[str, Kept]:
    """The tensors, or what is told of them, whose names begin with ``prefix``, named by what follows it."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
