"""How near decoded clips are to real ones, what they cost, and that nothing looks ahead.

Axis letters: n clip, t frame.
"""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch

from procosm.benchmarks.dream.fidelity.ssim import ssim
from procosm.benchmarks.dream.tokenizer.codecs import Codec, best_within
from procosm.benchmarks.dream.tokenizer.frame_net import FrameNet, frame_distance
from procosm.world_model.data.clips import ClipSampler
from procosm.world_model.tokenizer.bottleneck import codebook_use
from procosm.world_model.tokenizer.model import CausalTokenizer

NEAREST = 0.01
"""Mean square error, in squared levels, that counts as none: 68 dB."""
UNITS = {"psnr_db": "dB", "ssim": "1", "framenet_distance": "1", "bytes_per_frame": "byte"}
EACH, CUTS = 4, 16
"""Tokens for every code that its use is counted in, and cuts in a batch of them."""
TIMED = 4
"""Clips that are timed, one by one, after one that is not."""

Scores = dict[str, np.ndarray]
"""(n,) by metric."""


@dataclass(frozen=True)
class Judged:
    """What a tokenizer makes of clips: scores of each, and what is known of it as a whole."""

    scores: Scores
    whole: dict[str, float]


def compared(decoded: np.ndarray, real: np.ndarray, net: FrameNet) -> Scores:
    """Scores of clips (n, t, H, W, 3) uint8."""
    error = np.square(decoded.astype(np.float32) - real).mean(axis=(1, 2, 3, 4), dtype=np.float64)
    pairs = list(zip(decoded, real, strict=True))
    return {
        "psnr_db": 10 * np.log10(255**2 / np.maximum(error, NEAREST)),
        "ssim": np.array([ssim(a, b).mean() for a, b in pairs]),
        "framenet_distance": np.array([frame_distance(net, a, b).mean() for a, b in pairs]),
    }


@torch.no_grad()
def judge_tokenizer(model: CausalTokenizer, clips: np.ndarray, net: FrameNet) -> Judged:
    """Scores of clips (n, t, H, W, 3) through a tokenizer, as ``procosm encode`` stores them."""
    decoded = []
    for clip in torch.from_numpy(clips)[:, None]:
        latents = model.encode(clip.to(model.mean.device))
        decoded.append(model.decode(latents if model.spec.vocabulary else latents.half().float())[0].cpu().numpy())
    scores = compared(np.stack(decoded), clips, net)
    scores["bytes_per_frame"] = np.full(len(clips), stored_bytes(model, clips))
    whole = timed(model, torch.from_numpy(clips)) | {"causality_difference": look_ahead(model, clips[0])}
    return Judged(scores, whole)


def judge_codebook(model: CausalTokenizer, sampler: ClipSampler, seed: int) -> dict[str, float]:
    """How much of its codebook a discrete tokenizer uses for cuts at any places, ``EACH`` tokens for every code.

    ``ceiling`` is the share that as many tokens would use of a codebook whose codes are all as likely (Poisson).
    """
    vocabulary, count = model.spec.vocabulary or 0, 0
    tokens: list[torch.Tensor] = []
    while count < EACH * vocabulary:
        drawn = sampler.draw(CUTS, seed, len(tokens)).to(model.mean.device)
        tokens.append(model.quantize(model.encode(drawn)).flatten().cpu())
        count += len(tokens[-1])
    return codebook_use(torch.cat(tokens), vocabulary) | {"ceiling": 1 - math.exp(-count / vocabulary)}


def stored_bytes(model: CausalTokenizer, clips: np.ndarray) -> float:
    """Bytes a frame as ``procosm encode`` stores them: two for each token, or for each number of a latent."""
    channels, height, width = model.spec.shape
    latents = 1 + (clips.shape[1] - 1) // model.spec.frames_per_latent
    return 2 * latents * (1 if model.spec.vocabulary else channels) * height * width / clips.shape[1]


def timed(model: CausalTokenizer, clips: torch.Tensor) -> dict[str, float]:
    """Milliseconds a frame of coding and of decoding, the median over clips: processor time of one thread on the CPU,
    wall clock on a CUDA device.
    """
    seconds = []
    for clip in clips[: 1 + TIMED, None].to(model.mean.device):
        began = _now(model)
        latents = model.encode(clip)
        coded = _now(model)
        model.decode(latents)
        seconds.append((coded - began, _now(model) - coded))
    encode_s, decode_s = np.median(seconds[1:], axis=0) / clips.shape[1]
    return {"encode_ms_per_frame": 1e3 * encode_s, "decode_ms_per_frame": 1e3 * decode_s}


def _now(model: CausalTokenizer) -> float:
    if not model.mean.is_cuda:
        return time.process_time()
    torch.cuda.synchronize(model.mean.device)
    return time.perf_counter()


def look_ahead(model: CausalTokenizer, clip: np.ndarray) -> float:
    """The greatest difference, in levels, that noise in all later frames makes to any frame decoded before them."""
    frames = torch.from_numpy(clip)[None].to(model.mean.device)
    k, worst = model.spec.frames_per_latent, 0
    before = model.decode(model.encode(frames)).int()
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 256, frames.shape, dtype=torch.uint8, generator=generator).to(frames.device)
    for first in range(1, len(clip), k):  # the first frame of each group of k
        changed = torch.cat([frames[:, :first], noise[:, first:]], dim=1)
        after = model.decode(model.encode(changed)).int()
        worst = max(worst, int((after - before)[:, :first].abs().max()))
    return float(worst)


def judge_codec(codec: Codec, clips: np.ndarray, target: float, net: FrameNet) -> Scores:
    """Scores of clips through a codec at ``target`` bytes a frame."""
    found = [best_within(codec, clip, target) for clip in clips]
    return compared(np.stack([frames for frames, _ in found]), clips, net) | {
        "bytes_per_frame": np.array([size for _, size in found])
    }


def judge_copies(clips: np.ndarray, net: FrameNet) -> Scores:
    """Scores of showing the frame before in place of each frame but the first."""
    return compared(clips[:, :-1], clips[:, 1:], net)
