"""A tokenizer's folder, and files of latents."""

import hashlib
import json
from functools import partial
from pathlib import Path

import numpy as np
import safetensors
import safetensors.torch
import torch

from procosm.world_model.data.video_stream import LOSSLESS, encode_part
from procosm.world_model.tokenizer import folder as folders
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.tokenizer.rates import rate_config
from procosm.world_model.tokenizer.transcode import DecodeConfig, EncodeConfig, decode, encode
from tests.fuzz.mutations import Case, drawn, flips, json_texts, safetensors_files
from tests.fuzz.surfaces.checkpoint import holding

FREE = {"dt_s", "video"}
"""What a file of latents says of its video that nothing else has to agree with."""


def decoded(latents: Path, tokenizer: Path) -> None:
    out = latents.with_name("decoded.mp4")
    try:
        decode(DecodeConfig(latents, tokenizer, out, device="cpu"))
    finally:
        for path in (out, *latents.parent.glob("decoded.mp4.parts/*")):
            path.unlink(missing_ok=True)


def with_content(path: Path, content: bytes, latents: Path, sealed: bool = False) -> None:
    """Decode where a file has other content; ``sealed`` means that config.json has the checksum of it."""
    config = path.parent / "config.json"
    values = json.loads(config.read_text()) if config.exists() else {}
    tokenizer = latents.parent / "tokenizer"
    with holding(path, content):
        if not sealed:
            return decoded(latents, tokenizer)
        values["sha256"] = hashlib.sha256(content).hexdigest()
        with holding(config, json.dumps(values).encode()):
            folders.open_tokenizer(tokenizer, 32, 32)


def wrong_about(path, kind) -> bool:
    if path[-1] in FREE:
        return kind in ("type", "missing") and path[-1] != "video"
    return kind != "size" or path[-1] not in ("frames", "height", "width")


def cases(folder: Path) -> list[Case]:
    torch.manual_seed(0)
    tokenizer = folder / "tokenizer"
    folders.save(tokenizer, CausalTokenizer(rate_config("DV4x8x8", 32, 32, channels=8, blocks=1)), {}, {})
    video, latents = folder / "film.mp4", folder / "film.safetensors"
    video.write_bytes(encode_part(np.zeros((3, 32, 32, 3), np.uint8), 0.04, LOSSLESS))
    encode(EncodeConfig(video, tokenizer, latents, "cpu"))
    decoded(latents, tokenizer)
    config, weights = tokenizer / "config.json", tokenizer / folders.WEIGHTS
    made = [Case(f"config: {name}", partial(with_content, config, text, latents), bad)
            for name, text, bad in json_texts(json.loads(config.read_text()), lambda *_: True)]  # fmt: skip
    made = drawn(made, 120, seed=1)
    content = weights.read_bytes()
    made += [Case(f"weights: {name}", partial(with_content, weights, spoilt, latents), True)
             for name, spoilt in flips(content, 20, seed=2)]  # fmt: skip
    sealed = [Case(f"weights, sealed: {name}", partial(with_content, weights, spoilt, latents, True), bad)
              for name, spoilt, bad in safetensors_files(content)]  # fmt: skip
    made += drawn(sealed, 40, seed=3)
    with safetensors.safe_open(latents, "pt") as file:
        about = json.loads(file.metadata()["procosm"])
    tensors = safetensors.torch.load_file(latents)
    said = [
        Case(f"latents: {name}", partial(with_content, latents, spoilt, latents), bad)
        for name, text, bad in json_texts(about, wrong_about)
        if (spoilt := _saying(tensors, text)) is not None
    ]
    files = [Case(f"latents: {name}", partial(with_content, latents, spoilt, latents), bad)
             for name, spoilt, bad in safetensors_files(latents.read_bytes())]  # fmt: skip
    others = {
        "no token": {"tokens": torch.full_like(tensors["tokens"].int(), 64000)},
        "below zero": {"tokens": torch.full_like(tensors["tokens"].int(), -1)},
        "floats": {"tokens": tensors["tokens"].float()},
        "other name": {"latents": tensors["tokens"]},
        "one more": tensors | {"more": torch.zeros(1)},
        "nothing": {},
    }
    spoilt = {name: safetensors.torch.save(other, {"procosm": json.dumps(about)}) for name, other in others.items()}
    values = [
        Case(f"latents: {name}", partial(with_content, latents, content, latents), True)
        for name, content in spoilt.items()
    ]
    return made + drawn(said, 90, seed=4) + drawn(files, 40, seed=5) + values


def _saying(tensors: dict[str, torch.Tensor], text: bytes) -> bytes | None:
    """The file with other metadata; None where these are no text that a header can hold."""
    try:
        return safetensors.torch.save(tensors, {"procosm": text.decode()})
    except UnicodeDecodeError:
        return None
