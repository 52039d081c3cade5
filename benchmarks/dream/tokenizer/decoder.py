"""What a diffusion decoder adds to tokens: the same tokens shown by their own decoder, and by one that denoises.

    python -m procosm.benchmarks.dream.tokenizer.decoder --out runs/tokenizer --publish

Tokenizers of two rates, trained by ``procosm.benchmarks.dream.tokenizer`` with the same settings (or now), code the
training tasks' episodes; a decoder learns to go from the tokens of the one to the latents of the other. Judged on tasks
that none of the three has seen. The control decodes the tokens of another clip. Killed at any moment, the same command
goes on.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from procosm.agents.road import collect_stage, tokenizer_stage
from procosm.benchmarks.dream.tokenizer.__main__ import (
    FRAMES,
    NET_STEPS,
    SIDE,
    TRAINING,
    UNSEEN,
    TokenizerBenchmarkConfig,
    cut,
    rows_of,
    training,
)
from procosm.benchmarks.dream.tokenizer.frame_net import train_frame_net
from procosm.benchmarks.dream.tokenizer.judging import Scores, compared
from procosm.benchmarks.record import RESULTS, record
from procosm.envs.collect.collect import CollectConfig
from procosm.world_model import command
from procosm.world_model.data.clips import ClipSampler, load_clips
from procosm.world_model.data.episodes import load_episodes
from procosm.world_model.diffusion.decoder import DecoderConfig, DiffusionDecoder
from procosm.world_model.diffusion.transformer import TransformerConfig
from procosm.world_model.interface import MEAN, Sampling
from procosm.world_model.settings import Count
from procosm.world_model.threads import one_thread
from procosm.world_model.tokenizer import folder
from procosm.world_model.tokenizer.model import CausalTokenizer
from procosm.world_model.tokenizer.rates import RateName
from procosm.world_model.training.stage import StageConfig, run_stage

TOKENS: RateName = "DV4x8x8"
FINE: RateName = "CV4x8x8"
DRAWN = Sampling(8, "unipc")
CLIP = 9
"""Frames of a clip that the decoder is trained on."""
SIZES = DecoderConfig(TransformerConfig(patch=1, layers=3))


@dataclass(frozen=True)
class DecoderBenchmarkConfig(TokenizerBenchmarkConfig):
    """As for the tokenizers, and how long the decoder trains."""

    decoder_steps: Count = 1000
    """Optimizer steps of the decoder, of eight clips each."""


class _Loss(nn.Module):
    """What ``run_stage`` trains and keeps: the decoder, and from clips to its loss."""

    def __init__(self, decoder: DiffusionDecoder) -> None:
        super().__init__()
        self.decoder = decoder


@one_thread()
def benchmark(config: DecoderBenchmarkConfig) -> Path:
    """Train what is missing, then judge; writes OUT/decoder.json and returns it."""
    data = {task: config.out / "data" / task / "data" for task in (*TRAINING, *UNSEEN)}
    for task in data:
        collect_stage(CollectConfig(env=task, out=data[task].parent, steps=config.collected, seed=config.seed))
    sources = tuple(data[task] for task in TRAINING)
    for name in (TOKENS, FINE):
        tokenizer_stage(training(config, name, sources))
    device = config.resolved()
    coarse, fine = (folder.load(config.out / name, SIDE, SIDE, device) for name in (TOKENS, FINE))
    decoder, learned = trained(config, coarse, fine, sources)
    net = train_frame_net({task: load_episodes(data[task]) for task in TRAINING}, NET_STEPS, config.seed)
    found: dict[str, dict[str, Scores]] = {}
    for task in UNSEEN:
        clips = cut(data[task], config.clips, config.seed)
        for method, frames in decoded(coarse, fine, decoder, clips).items():
            found.setdefault(method, {})[task] = compared(frames, clips, net)
    rows: list[dict[str, Any]] = [row for method, each in found.items() for row in rows_of(method, each, config)]
    details = {"training": learned, "steps": config.decoder_steps, "tokenizer steps": config.steps, "clip": FRAMES}
    result = record("decoder", rows, config.out, details)
    if config.publish:
        shutil.copyfile(result, RESULTS / result.name)
    return result


def trained(
    config: DecoderBenchmarkConfig, coarse: CausalTokenizer, fine: CausalTokenizer, data: tuple[Path, ...]
) -> tuple[DiffusionDecoder, dict[str, float]]:
    """The decoder, and what its training found."""
    torch.manual_seed(config.seed)
    sampler = ClipSampler(load_clips(data, CLIP).train, CLIP, SIDE, SIDE)
    device = coarse.mean.device
    module = _Loss(DiffusionDecoder(SIZES, coarse.spec, fine.spec)).to(device)

    def losses(step: int) -> tuple[Tensor, dict[str, Tensor]]:
        clips = sampler.draw(8, config.seed + 3, step).to(device)
        generator = torch.Generator().manual_seed(config.seed * 10**6 + step)
        return module.decoder.loss(coarse.encode(clips), fine.encode(clips), generator)

    stage = StageConfig(config.decoder_steps, 8, 1.5e-3)
    learned = run_stage("decoder", module, losses, stage, config.out / "decoder.training" / "decoder.safetensors")
    return module.decoder.requires_grad_(False).eval(), learned


def decoded(
    coarse: CausalTokenizer, fine: CausalTokenizer, decoder: DiffusionDecoder, clips: np.ndarray
) -> dict[str, np.ndarray]:
    """Clips (n, t, H, W, 3) as each way shows their tokens."""
    frames = torch.from_numpy(clips).to(coarse.mean.device)
    latents = torch.cat([coarse.encode(part) for part in frames.split(4)])
    draws = [np.random.default_rng([1, index]) for index in range(len(frames))]
    ways = {
        f"{TOKENS}, its own decoder": lambda: coarse.decode(latents),
        f"{TOKENS}, diffusion decoder, mean": lambda: fine.decode(decoder(latents)),
        f"{TOKENS}, diffusion decoder, drawn": lambda: fine.decode(decoder(latents, draws, DRAWN)),
        "control: tokens of another clip, mean": lambda: fine.decode(decoder(latents.roll(1, 0), None, MEAN)),
        f"{FINE}, which it cannot surpass": lambda: torch.cat([fine.decode(fine.encode(p)) for p in frames.split(4)]),
    }
    return {name: way().cpu().numpy() for name, way in ways.items()}


if __name__ == "__main__":
    command.main(benchmark, DecoderBenchmarkConfig)
