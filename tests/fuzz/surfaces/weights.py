"""The safetensors files of a checkpoint: damaged on the way, and written wrong."""

from functools import partial
from pathlib import Path

import safetensors.torch
import torch

from tests.fuzz.mutations import Case, drawn, flips, safetensors_files
from tests.fuzz.surfaces.checkpoint import dream, opened_sealed, opened_with, whole

FILES = ("tokenizer", "dynamics", "starts", "trust", "resets")


def unreal(content: bytes):
    """Tensors that hold numbers which are none, or cannot be held by the model: name and the file's bytes."""
    tensors = safetensors.torch.load(content)
    for name, tensor in tensors.items():
        if not tensor.is_floating_point() or not tensor.numel():
            continue
        for value in (float("nan"), float("inf"), float("-inf")):
            spoilt = tensor.clone()
            spoilt.view(-1)[-1] = value
            yield f"{name} = {value}", safetensors.torch.save(tensors | {name: spoilt})
        vast = tensor.double()
        vast.view(-1)[0] = 1e300
        yield f"{name} = 1e300", safetensors.torch.save(tensors | {name: vast})
        yield f"{name} as integers", safetensors.torch.save(tensors | {name: tensor.to(torch.int64)})
        yield f"{name} with an axis more", safetensors.torch.save(tensors | {name: tensor[None].contiguous()})
        yield f"{name} empty", safetensors.torch.save(tensors | {name: tensor.flatten()[:0].clone()})


def without(path: Path) -> None:
    content = path.read_bytes()
    path.unlink()
    try:
        dream(path.parent)
    finally:
        path.write_bytes(content)


def cases(folder: Path) -> list[Case]:
    checkpoint, made = whole(folder), []
    for number, name in enumerate(FILES):
        path = checkpoint / f"{name}.safetensors"
        content = path.read_bytes()
        own = [Case(f"{name}: {said}", partial(opened_with, path, spoilt), True)
               for said, spoilt in flips(content, 25, seed=number)]  # fmt: skip
        own += [Case(f"{name}, sealed: {said}", partial(opened_sealed, path, spoilt), False)
                for said, spoilt in flips(content, 25, seed=10 + number)]  # fmt: skip
        own += [Case(f"{name}, sealed: {said}", partial(opened_sealed, path, spoilt), bad)
                for said, spoilt, bad in safetensors_files(content)]  # fmt: skip
        values = [Case(f"{name}, sealed: {said}", partial(opened_sealed, path, spoilt), True)
                  for said, spoilt in unreal(content)]  # fmt: skip
        made += [Case(f"{name} missing", partial(without, path), True)]
        made += drawn(own, 70, seed=number) + drawn(values, 40, seed=number)
    return made
