"""Video files to files of latents or tokens, and back: ``procosm encode`` and ``procosm decode``."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Interval

from procosm.world_model.data.video_stream import encode_part, frames_of, join_parts, probe
from procosm.world_model.errors import DatasetError, ProcosmError
from procosm.world_model.files import read_tensors, sha256, write_bytes, write_tensors
from procosm.world_model.precision import resolve_device
from procosm.world_model.progress import Progress
from procosm.world_model.settings import Device, Settings
from procosm.world_model.tokenizer.coded import (
    FORMAT,
    GROUPS,
    Coded,
    Parts,
    read_about,
    read_coded,
    stored,
    write_coded,
)
from procosm.world_model.tokenizer.folder import Opened, open_tokenizer


@dataclass(frozen=True)
class EncodeConfig(Settings):
    """Code a video file."""

    video: Path
    """Video file: mp4 or any other that FFmpeg reads."""
    tokenizer: Path
    """Folder made by `procosm train-tokenizer`, or a world model's checkpoint."""
    out: Path
    """File of latents to make, .safetensors."""
    device: Device = "auto"
    """Where to compute: auto (CUDA where there is a device), cpu, cuda, or cuda:i."""


@dataclass(frozen=True)
class DecodeConfig(Settings):
    """Decode a file of latents."""

    latents: Path
    """File made by `procosm encode`."""
    tokenizer: Path
    """Folder of the tokenizer that coded it."""
    out: Path
    """Video file to make, .mp4."""
    quality: Annotated[int, Interval(ge=0, le=51)] = 15
    """H.264's constant rate factor: less is better; 0 loses nothing more, and only some players show it."""
    device: Device = "auto"
    """Where to compute: auto (CUDA where there is a device), cpu, cuda, or cuda:i."""


def encode(config: EncodeConfig) -> Path:
    """Write the latents of a video; run again after a crash, it goes on with the window it was at.

    Raises:
        ProcosmError: no such video or tokenizer, one that is damaged, or an ``out`` that holds something else.
    """
    _check_out(config.out, ".safetensors")
    about = probe(config.video)
    opened = open_tokenizer(config.tokenizer, about.height, about.width, config.device)
    work = {"tokenizer": opened.sha256, "video": sha256(config.video)}
    if config.out.exists():
        there = read_about(config.out)
        if work != {"tokenizer": there.tokenizer, "video": there.video}:
            raise ProcosmError(f"{config.out} holds the latents of something else: give another --out, or delete it")
        print(f"{config.out} is finished; delete it to make it again.", file=sys.stderr)
        return config.out
    k = opened.tokenizer.spec.frames_per_latent
    coded = Coded(FORMAT, about.frames, about.height, about.width, about.dt_s, k, **work)
    parts, paths, seen = Parts(config.out, work), [], 0
    with Progress(coded.windows, "encode", "window") as bar:
        for index, (frames, shown) in enumerate(_windows(config.video, coded.window)):
            paths.append(parts.path(index, ".safetensors"))
            if not paths[-1].exists():
                write_tensors(paths[-1], _encoded(opened, frames, resolve_device(config.device)))
            seen += shown
            bar.update()
    coded = replace(coded, frames=seen)
    write_coded(config.out, coded, [read_tensors(path, parts.advice) for path in paths])
    parts.remove()
    size = config.out.stat().st_size
    print(f"{seen} frames in {size / 1e6:.2f} MB, {size / seen:.0f} bytes a frame", file=sys.stderr)
    return config.out


def decode(config: DecodeConfig) -> Path:
    """Write the video of a file of latents; run again after a crash, it goes on with the window it was at.

    Raises:
        ProcosmError: no such file or tokenizer, one that is damaged or does not belong to the other, or an ``out`` that
            is there already.
    """
    _check_out(config.out, ".mp4")
    if config.out.exists():
        raise ProcosmError(f"{config.out} is there already: give another --out, or delete it")
    coded = read_about(config.latents)
    opened = open_tokenizer(config.tokenizer, coded.height, coded.width, config.device)
    if opened.sha256 != coded.tokenizer:
        raise ProcosmError(
            f"{config.latents} was coded by another tokenizer than {config.tokenizer} ({coded.tokenizer[:12]}, "
            f"not {opened.sha256[:12]}): give the one it was coded by"
        )
    tokenizer, device = opened.tokenizer, resolve_device(config.device)
    found = read_coded(config.latents, coded, tokenizer.spec)
    parts = Parts(config.out, {"latents": sha256(config.latents), "quality": config.quality})
    paths = [parts.path(index, ".mp4") for index in range(coded.windows)]
    with Progress(coded.windows, "decode", "window") as bar:
        for index, (path, part) in enumerate(zip(paths, found.split(1 + GROUPS), strict=True)):
            if not path.exists():
                part = part[None].to(device)
                latents = opened.discrete().dequantize(part) if tokenizer.spec.vocabulary else part
                frames = tokenizer.decode(latents)[0].cpu().numpy()[: coded.frames - index * coded.window]
                write_bytes(path, encode_part(frames[:, : coded.height, : coded.width], coded.dt_s, config.quality))
            bar.update()
    write_bytes(config.out, join_parts(paths))
    parts.remove()
    return config.out


def _encoded(opened: Opened, frames: np.ndarray, device: torch.device) -> dict[str, Any]:
    """What is stored of a window (t, H, W, 3), padded to the size that the tokenizer codes."""
    below, beside = opened.height - frames.shape[1], opened.width - frames.shape[2]
    padded = np.pad(frames, ((0, 0), (0, below), (0, beside), (0, 0)), mode="edge")
    latents = opened.tokenizer.encode(torch.from_numpy(padded)[None].to(device))
    tokens = opened.discrete().quantize(latents) if opened.tokenizer.spec.vocabulary else None
    return stored(latents, tokens)


def _windows(video: Path, window: int) -> Iterator[tuple[np.ndarray, int]]:
    """All windows (t, H, W, 3) of a video, and how many frames of each are its own.

    The last frame of the last window is repeated until the window is full.

    Raises:
        DatasetError: a damaged file, or one without frames.
    """
    frames: list[np.ndarray] = []
    shown = 0
    for frame in frames_of(video):
        frames.append(frame)
        if len(frames) == window:
            yield np.stack(frames), window
            frames, shown = [], shown + window
    if frames:
        yield np.stack(frames + [frames[-1]] * (window - len(frames))), len(frames)
    elif not shown:
        raise DatasetError(f"{video} shows no frame")


def _check_out(out: Path, suffix: str) -> None:
    if out.suffix != suffix:
        raise ProcosmError(f"--out {out}: give a name that ends in {suffix}")
