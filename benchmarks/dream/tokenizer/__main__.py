"""Tokenizers of several rates on video of tasks that they never saw, beside JPEG and H.264 at the same bytes.

    python -m procosm.benchmarks.dream.tokenizer --rates CI8x8 DI8x8 CV4x8x8 DV4x8x8 --publish

Episodes of five MuJoCo tasks train a tokenizer of each rate, alike in size, steps and batch; episodes of three other
tasks judge it. Bytes are those that ``procosm encode`` stores; weights do not count, and neither do the codecs' tables.
A rate that was not trained is not in the result. Killed at any moment, the same command goes on.
"""

import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from procosm.agents.judge.intervals import interval
from procosm.agents.road import collect_stage, tokenizer_stage
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.dream.tokenizer.codecs import h264, jpeg
from procosm.benchmarks.dream.tokenizer.frame_net import FrameNet, train_frame_net
from procosm.benchmarks.dream.tokenizer.judging import (
    UNITS,
    Scores,
    judge_codebook,
    judge_codec,
    judge_copies,
    judge_tokenizer,
)
from procosm.benchmarks.record import RESULTS, record
from procosm.envs.collect.collect import CollectConfig
from procosm.world_model import command
from procosm.world_model.data.clips import ClipSampler
from procosm.world_model.data.episodes import load_episodes
from procosm.world_model.errors import DatasetError
from procosm.world_model.settings import Count, Seed
from procosm.world_model.threads import one_thread
from procosm.world_model.tokenizer import folder
from procosm.world_model.tokenizer.rates import RateName
from procosm.world_model.tokenizer.training import TokenizerTrainConfig

TRAINING = ("Reacher", "InvertedPendulum", "HalfCheetah", "Hopper", "Swimmer-v5")
UNSEEN = ("Walker2d-v5", "Pusher-v5", "Ant-v5")
ALL = "all unseen tasks"
SIDE, CUT, FRAMES = 64, 32, 33
"""Pixels of a frame and of a cut that is trained on; frames of a clip that is judged: whole groups of 1, 4 and 8."""
NET_STEPS = 500
CODECS = {"H.264": h264, "JPEG": jpeg}
WHOLE_UNITS = {"encode_ms_per_frame": "ms", "decode_ms_per_frame": "ms", "causality_difference": "level"}


@dataclass(frozen=True)
class TokenizerBenchmarkConfig(OnDevice):
    """Which rates, and how long they train."""

    out: Path = Path("runs/tokenizer")
    """Folder of episodes, tokenizers and scores."""
    rates: tuple[RateName, ...] = ("CI8x8", "DI8x8", "CV4x8x8", "DV4x8x8")
    """Rates to train and judge."""
    collected: Count = 1200
    """Steps of each task."""
    steps: Count = 2500
    """Optimizer steps of each tokenizer."""
    clips: Count = 12
    """Clips of each unseen task, 33 frames each, that are judged."""
    seed: Seed = 0
    """Of episodes, weights, batches and intervals."""
    train_only: bool = False
    """Train, and judge nothing yet."""
    publish: bool = False
    """Copy the result to benchmarks/results."""


def benchmark(config: TokenizerBenchmarkConfig) -> Path:
    """Collect, train and judge, or go on with it; writes OUT/tokenizer.json and returns it."""
    data = {task: config.out / "data" / task / "data" for task in (*TRAINING, *UNSEEN)}
    for task in data:
        collect_stage(CollectConfig(env=task, out=data[task].parent, steps=config.collected, seed=config.seed))
    for name in config.rates:
        tokenizer_stage(training(config, name, tuple(data[task] for task in TRAINING)))
    if config.train_only:
        return config.out
    clips = {task: cut(data[task], config.clips, config.seed) for task in UNSEEN}
    with one_thread():
        net = train_frame_net({task: load_episodes(data[task]) for task in TRAINING}, NET_STEPS, config.seed)
        copies = {task: judge_copies(each, net) for task, each in clips.items()}
        rows = rows_of("copy of the frame before", copies, config)
        for name in config.rates:
            rows += judged(config, name, clips, net)
    tokenizers = {name: folder.read_config(config.out / name).tokenizer for name in config.rates}
    details = {
        "training tasks": TRAINING, "unseen tasks": UNSEEN, "frames": FRAMES, "side": SIDE,
        "tokenizers": {name: asdict(each) for name, each in tokenizers.items()},
        "training": {name: settings(training(config, name, ())) for name in config.rates},
        "framenet_distance": "LPIPS with FrameNet in place of VGG: a network of three layers that learned to read the "
        f"states of the training tasks in {NET_STEPS} steps (benchmarks/dream/tokenizer/frame_net.py)",
        "bytes": "tokenizers: 2 for each token or number, as procosm encode stores them; codecs: of pictures alone",
    }  # fmt: skip
    result = record("tokenizer", rows, config.out, details)
    if config.publish:
        shutil.copyfile(result, RESULTS / result.name)
    return result


def training(config: TokenizerBenchmarkConfig, name: RateName, data: tuple[Path, ...]) -> TokenizerTrainConfig:
    """How a rate trains: on cuts of a quarter of a frame, an image tokenizer on about as many frames as another."""
    batch = 6 if name[1] == "V" else 60
    lengths: dict[str, Any] = {"steps": config.steps, "batch": batch, "seed": config.seed, "device": config.device}
    return TokenizerTrainConfig(data, config.out / name, name, height=CUT, width=CUT, **lengths)


def settings(config: TokenizerTrainConfig) -> dict[str, Any]:
    """Those of a training that are no paths."""
    return {key: value for key, value in asdict(config).items() if key not in ("data", "out", "device")}


def cut(data: Path, count: int, seed: int) -> np.ndarray:
    """(n, t, H, W, 3): clips of a dataset that do not overlap, drawn at random; as many as there are, at most.

    Raises:
        DatasetError: every episode is shorter than a clip.
    """
    episodes = [episode.frames for episode in load_episodes(data)]
    starts = [(e, first) for e in episodes for first in range(0, len(e) - FRAMES + 1, FRAMES)]
    if not starts:
        raise DatasetError(f"no episode of {data} has {FRAMES} frames: collect more steps (--collected)")
    chosen = np.random.default_rng(seed).permutation(len(starts))[:count]
    return np.stack([starts[i][0][starts[i][1] : starts[i][1] + FRAMES] for i in chosen])


def judged(
    config: TokenizerBenchmarkConfig, name: RateName, clips: dict[str, np.ndarray], net: FrameNet
) -> list[dict[str, Any]]:
    """Rows about the tokenizer of a rate, and about the codecs at its bytes."""
    model = folder.load(config.out / name, SIDE, SIDE, config.resolved())
    found = {task: judge_tokenizer(model, each, net) for task, each in clips.items()}
    rows = rows_of(name, {task: each.scores for task, each in found.items()}, config)
    whole = {key: max(each.whole[key] for each in found.values()) for key in WHOLE_UNITS}
    whole |= {"weights": sum(p.numel() for p in model.parameters())}
    if model.spec.vocabulary:
        episodes = [e.frames for t in (*TRAINING, *UNSEEN) for e in load_episodes(config.out / "data" / t / "data")]
        cuts = ClipSampler(episodes, FRAMES, CUT, CUT)  # at any place: whole frames show their patches at one alone
        use = judge_codebook(folder.load(config.out / name, CUT, CUT), cuts, config.seed)
        whole |= {f"codebook {key}": value for key, value in use.items()}
        whole["codebook use of 80 % reached"] = float(use["share used"] >= 0.8)
    about = {"task": ALL, "method": name, "seed": config.seed}
    rows += [about | {"metric": key, "value": value, "unit": WHOLE_UNITS.get(key, "1")} for key, value in whole.items()]
    target = next(iter(found.values())).scores["bytes_per_frame"][0]
    for codec, function in CODECS.items():
        print(f"{codec} at {target:.0f} bytes a frame", file=sys.stderr)
        scores = {task: judge_codec(function, each, target, net) for task, each in clips.items()}
        rows += rows_of(f"{codec} at the bytes of {name}", scores, config)
    return rows


def rows_of(method: str, scores: dict[str, Scores], config: TokenizerBenchmarkConfig) -> list[dict[str, Any]]:
    """Means over clips with 95 % bootstrap intervals: of each task, and of all together."""
    together = {key: np.concatenate([each[key] for each in scores.values()]) for key in next(iter(scores.values()))}
    return [
        {"metric": key, "task": task, "method": method, "unit": UNITS[key], "seed": config.seed}
        | interval(lambda x: x.mean(axis=-1), values, seed=config.seed).as_dict()
        for task, each in [*scores.items(), (ALL, together)]
        for key, values in each.items()
    ]


if __name__ == "__main__":
    command.main(benchmark, TokenizerBenchmarkConfig)
