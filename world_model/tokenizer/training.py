"""A tokenizer for any video, trained on frames alone: single images and clips together, in two stages of the loss."""

import sys
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from tqdm import tqdm

from procosm.world_model import folders
from procosm.world_model.data.clips import ClipSampler, load_clips
from procosm.world_model.errors import DatasetError
from procosm.world_model.precision import bfloat16_pays, describe, resolve_device
from procosm.world_model.provenance import provenance
from procosm.world_model.settings import Count, Device, Positive, Seed, Settings
from procosm.world_model.tokenizer import folder
from procosm.world_model.tokenizer.bottleneck import codebook_use
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.tokenizer.rates import RateName, rate, rate_config
from procosm.world_model.tokenizer.reconstruction import ReconstructionLoss, ReconstructionWeights
from procosm.world_model.training.stage import StageConfig, run_stage

SIZES = {"debug": (8, 0), "small": (32, 1), "base": (128, 2)}
"""Channels after the wavelet and residual blocks at each resolution of a preset; base is that of Cosmos."""
FIRST_STAGE = 0.7
"""Share of the steps that the first stage has."""
GROUPS = 2
"""Groups of frames, beside the first frame, in a clip that is trained on."""
FITTED, JUDGED = 512, 64
"""Clips that latents are standardised with, and held-out ones that the result is judged by, at most."""


@dataclass(frozen=True)
class TokenizerTrainConfig(Settings):
    """Train a tokenizer on datasets or video files."""

    data: tuple[Path, ...]
    """Datasets or shards (RUN/data), video files, or folders of them."""
    out: Path
    """Folder of the tokenizer to make."""
    rate: RateName = "CV4x8x8"
    """Kind and compression: C continuous or D discrete, I images or V video, frames x pixels x pixels for a latent."""
    preset: Literal["debug", "small", "base"] = "small"
    """Size of the network: debug (seconds), small (minutes on a core), base (Cosmos' own, for a GPU)."""
    height: Count = 64
    """Height of the cuts it is trained on, pixels; it codes frames of any size afterwards."""
    width: Count = 64
    """Width of these cuts, pixels."""
    steps: Count = 3000
    """Optimizer steps, 7 of 10 of them in the first stage."""
    batch: Count = 8
    """Clips in a batch; a video tokenizer has as many single images beside them."""
    learning_rate: Positive = 2e-3
    """Peak of each stage's learning rate."""
    first: ReconstructionWeights = field(default_factory=ReconstructionWeights)
    """Weights of the first stage's loss."""
    second: ReconstructionWeights = field(default_factory=lambda: ReconstructionWeights(flow=0.1, gram=0.05))
    """Weights of the second stage's loss."""
    seed: Seed = 0
    """Seed of weights and batches."""
    device: Device = "auto"
    """Where to train: auto (CUDA where there is a device), cpu, cuda, or cuda:i."""

    def __post_init__(self) -> None:
        super().__post_init__()
        rate_config(self.rate, self.height, self.width, *SIZES[self.preset])


def train_tokenizer(config: TokenizerTrainConfig) -> Path:
    """Train a tokenizer and write its folder; run again after a crash, it goes on where it was.

    Raises:
        ProcosmError: data that are damaged or too small, or an ``out`` that cannot be written.
    """
    check_outs(config)
    device, asked = resolve_device(config.device), rate(config.rate)
    out = folders.named(config.out)
    torch.manual_seed(config.seed)
    model = CausalTokenizer(rate_config(config.rate, config.height, config.width, *SIZES[config.preset])).to(device)
    frames = 1 + GROUPS * asked.frames if model.config.temporal else 1
    clips = load_clips(config.data, frames)
    videos = ClipSampler(clips.train, frames, config.height, config.width)
    images = ClipSampler(clips.train, 1, config.height, config.width)

    def losses(loss: ReconstructionLoss, first: int, step: int) -> tuple[Tensor, dict[str, Tensor]]:
        drawn = images.draw(config.batch, config.seed, first + step).to(device)
        image, metrics = loss(drawn)
        if not model.config.temporal:
            return image, metrics
        video, parts = loss(videos.draw(config.batch, config.seed + 1, first + step).to(device))
        return (image + video) / 2, parts | {f"image {name}": part for name, part in metrics.items()}

    model.fit_linear(model.pixels(videos.draw(FITTED // frames, config.seed + 2, 1).to(device)))
    metrics: dict[str, object] = {}
    model.mixed = device.type == "cuda" and bfloat16_pays(device)
    ends = (0, round(FIRST_STAGE * config.steps), config.steps)
    for number, weights in enumerate((config.first, config.second)):
        steps = ends[number + 1] - ends[number]
        if not steps:
            continue
        stage = StageConfig(steps, config.batch, config.learning_rate / (1 + number))
        loss, name = ReconstructionLoss(weights, model).to(device), f"{config.rate} {number + 1}/2"
        save = out.with_name(out.name + ".training") / f"stage-{number}.safetensors"
        step = partial(losses, loss, ends[number])
        metrics[f"stage {number + 1}"] = run_stage(name, loss, step, stage, save)
    model.mixed = False
    with torch.no_grad():
        sample = videos.draw(FITTED // frames, config.seed + 2, 0).to(device)
        model.fit_latents(torch.cat([model.to_latents(model.pixels(part)) for part in sample.split(16)]))
    unseen = [clip for clip in clips.held_out if len(clip) >= frames]
    judged = judge(model, ClipSampler(unseen or clips.train, frames, config.height, config.width))
    whose = "held out" if unseen else "trained on"
    tqdm.write(told(config.rate, judged, whose), file=sys.stderr)
    origin = provenance({"train-tokenizer": config}) | {"device": describe(device), "rate": config.rate}
    return folder.save(config.out, model.requires_grad_(False).eval(), metrics | {whose: judged}, origin)


def check_outs(config: TokenizerTrainConfig) -> None:
    """Refuse, before the work, an ``out`` that the tokenizer must not or cannot be saved to.

    Raises:
        ProcosmError: it holds anything but a tokenizer, lies in the data or around them, or cannot be written.
    """
    for path in config.data:
        if not path.exists():
            raise DatasetError(
                f"there is no {path}: give datasets of `procosm collect`, video files, or folders of them"
            )
        folders.check_apart(config.out, path)
    folders.check_out(config.out, folder.FILES.__contains__)
    folders.check_out(folders.named(config.out).parent)  # saves for resuming stand beside it


def check_made(out: Path) -> None:
    """Look at a finished tokenizer's folder.

    Raises:
        CheckpointError: it is not whole.
    """
    config = folder.read_config(out)
    folder.load(out, config.tokenizer.frame_height, config.tokenizer.frame_width)


@torch.no_grad()
def judge(model: CausalTokenizer, sampler: ClipSampler) -> dict[str, float]:
    """Peak signal to noise ratio, dB, of decoded against real clips; the codebook's use where there is one."""
    errors, tokens = [], []
    for part in sampler.draw(JUDGED, 0, 0).split(16):
        latents = model.encode(part.to(model.mean.device))
        difference = model.decode(latents).cpu().float() - part.float()
        errors.append(difference.square().mean((1, 2, 3, 4)))
        if model.spec.vocabulary:
            tokens.append(model.quantize(latents).flatten().cpu())
    psnr = 10 * torch.log10(255**2 / torch.cat(errors).clamp_min(1e-9))
    found = {"psnr": psnr.mean().item(), "clips": float(len(psnr))}
    return found | (codebook_use(torch.cat(tokens), model.spec.vocabulary) if model.spec.vocabulary else {})


def told(name: str, judged: dict[str, float], whose: str) -> str:
    """What came of it, in a line."""
    use = f", {judged['codes used']:.0f} codes used" if "codes used" in judged else ""
    return f"{name}: {judged['psnr']:.1f} dB on {judged['clips']:.0f} clips {whose}{use}"
