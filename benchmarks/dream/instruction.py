"""Does a dream do what it is told, in words, from the same frame?

    python -m procosm.benchmarks.dream.instruction --out runs/bench/instruction

Three coloured balls lie on a table (``Tabletop-v0``), and a goal is asked for: "push the red ball left". A world model
learns from logs in which it is done, told the words and not the forces: from one held-out frame and a text it has
to make the video. Where the balls are in the video's last frame is read off their colours, and so is which of the
twelve goals was reached, if any. Beside it stand: the text left out, another text than is judged, a model whose texts
were shuffled among the logged episodes, and MuJoCo's own frames, judged alike. ``low`` and ``high`` are 95 % intervals
by Wilson's score.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from procosm.agents.judge.intervals import proportion
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.envs.truth.mujoco import MujocoEnv
from procosm.envs.truth.tabletop import INSTRUCTIONS, RADIUS_M, STEPS, forces, goal_reached
from procosm.world_model import checkpoint, command
from procosm.world_model.data.episodes import Episode, is_whole, load_episodes, load_task, write_dataset
from procosm.world_model.data.task import Task
from procosm.world_model.interface import Condition
from procosm.world_model.model import WorldModel
from procosm.world_model.settings import Count
from procosm.world_model.threads import one_thread
from procosm.world_model.training.presets import Preset, preset
from procosm.world_model.training.train import TrainConfig, train

FRAME = 32
FAINT = 40
"""Grey levels by which one colour must exceed both others to be a ball's."""
HALF_M = math.tan(math.radians(23)) * (1.2 - RADIUS_M)
"""Half of what the camera above sees, at the height of the balls."""


@dataclass(frozen=True)
class InstructionConfig(OnDevice):
    """How much is logged, learned and judged."""

    out: Path
    """Folder for data and checkpoints; what is finished there is not made again."""
    result: Path = RESULTS / "instruction.json"
    """Where the result goes."""
    episodes: Count = 1200
    """Logged, a tenth of them held out."""
    judged: Count = 96
    """First frames that no episode has, each with one goal that is asked for; a multiple of 12 asks for all alike."""
    seeds: Count = 1
    """Of training, from 0 up."""
    steps: Count = 4000
    """Of the main stage of training."""
    guidance: tuple[float, ...] = (0.0, 1.0)
    """Weights of classifier-free guidance that are tried."""


def table() -> MujocoEnv:
    """The table from above, in small pixels."""
    return MujocoEnv("Tabletop-v0", frame_size=FRAME, camera="above", observation="pixels")


def film(env: MujocoEnv, seed: int, instruction: str) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Frames (H, W, 3) of the goal being done, each with the (3, 2) positions of the balls, metres."""
    frame, info = env.reset(seed=seed, options={"instruction": instruction})
    yield frame, info["state"][:6].reshape(3, 2)
    for _ in range(STEPS):
        frame, *_, info = env.step(forces(instruction))
        yield frame, info["state"][:6].reshape(3, 2)


def logged(config: InstructionConfig) -> tuple[Path, Path]:
    """The dataset, and the same with its texts shuffled among the episodes."""
    told, shuffled = config.out / "data", config.out / "shuffled" / "data"
    if not is_whole(told):
        env = table()
        task: Task = replace(env.task, signals={})

        def episodes() -> Iterator[tuple[Episode, None]]:
            for number in range(config.episodes):
                text = INSTRUCTIONS[number % len(INSTRUCTIONS)]
                frames = np.stack([frame for frame, _ in film(env, number, text)])
                kind = "holdout" if number % 10 == 9 else "train"
                yield Episode(frames, np.tile(forces(text), (STEPS, 1)), False, kind, text=text), None

        write_dataset(told, task, episodes(), {"instruction": "scripted"}, None)
    if not is_whole(shuffled):
        there = load_episodes(told)
        texts = np.random.default_rng(0).permutation([episode.text for episode in there])
        mixed = ((replace(e, text=str(text)), None) for e, text in zip(there, texts, strict=True))
        write_dataset(shuffled, load_task(told), mixed, {"instruction": "shuffled"}, None)
    return told, shuffled


def sizes(steps: int) -> Preset:
    """The small preset for frames of 32 pixels, in proportion to the main stage's steps."""
    small = preset("small")
    made = replace(small, tokenizer=replace(small.tokenizer, latent_channels=8, linear_path=True))
    made = made.with_stage("tokenizer", steps=max(1, steps // 8), batch=24)
    made = made.with_stage("state_head", steps=max(1, steps // 6), batch=64)
    made = made.with_stage("manifold", steps=max(1, steps // 2), batch=256)
    made = made.with_stage("diffusion", steps=steps, batch=32)
    return made.with_stage("unroll", steps=max(1, steps // 12), batch=16, growth_gate=None, extensions=0)


def positions(frame: np.ndarray) -> np.ndarray:
    """(3, 2) metres, where the red, green and blue ball are in a (H, W, 3) frame; NaN where one is not seen."""
    colours = frame.astype(np.float64)
    found = np.full((3, 2), np.nan)
    columns, rows = np.meshgrid(*[(np.arange(side) + 0.5) / side * 2 - 1 for side in frame.shape[1::-1]])
    for ball in range(3):
        weight = (colours[..., ball] - np.delete(colours, ball, axis=-1).max(-1) - FAINT).clip(0)
        if weight.sum() > 0:
            middle = np.array([(weight * columns).sum(), -(weight * rows).sum()]) / weight.sum()
            found[ball] = HALF_M * middle
    return found


def reached(first: np.ndarray, last: np.ndarray) -> str:
    """The goal that was reached between two frames, "" where none was or a ball is not seen."""
    before, after = positions(first), positions(last)
    return "" if np.isnan([before, after]).any() else goal_reached(before, after)


@torch.inference_mode()
def dreamed(model: WorldModel, frames: np.ndarray, texts: Sequence[str], guidance: float) -> np.ndarray:
    """(n, H, W, 3): the last frames of videos that begin with (n, H, W, 3) frames and are told n texts."""
    dynamics: Any = model.dynamics
    dynamics.config = replace(dynamics.config, guidance=guidance)
    memory = model.begin(model.encode(frames[:, None]), Condition(text=model.embed_text(texts)))
    still = torch.zeros(len(frames), 6, device=dynamics.action_low.device)
    for _ in range(STEPS):
        memory, prediction = model.step(memory, still)
    return model.decode(prediction.latents).cpu().numpy()


def scores(asked: Sequence[str], done: Sequence[str]) -> Iterator[dict[str, Any]]:
    """How often what was asked for was reached, and how often another goal was."""
    for metric, found in (
        ("asked goal reached", [a == d for a, d in zip(asked, done, strict=True)]),
        ("another goal reached", [d not in ("", a) for a, d in zip(asked, done, strict=True)]),
    ):
        yield {"metric": metric, "unit": "share", **proportion(np.array(found)).as_dict()}


@one_thread()
def measure(config: InstructionConfig) -> Path:
    """Train, dream, judge, and write what came of it; after each seed what there is so far."""
    told, shuffled = logged(config)
    env, generator = table(), np.random.default_rng(1)
    asked = [INSTRUCTIONS[i % len(INSTRUCTIONS)] for i in range(config.judged)]
    films = [[frame for frame, _ in film(env, 10**6 + i, text)] for i, text in enumerate(asked)]
    first, last = (np.stack([each[at] for each in films]) for at in (0, -1))
    other = [str(generator.choice([text for text in INSTRUCTIONS if text != each])) for each in asked]
    nothing = [""] * len(asked)
    rows: list[dict[str, Any]] = []

    def judge(arm: str, frames: np.ndarray, **said: Any) -> None:
        done = [reached(*pair) for pair in zip(first, frames, strict=True)]
        rows.extend({"task": "Tabletop-v0", "arm": arm, **said, **row} for row in scores(asked, done))

    judge("MuJoCo", last)
    judge("first frame, standing still", first)
    written = config.result
    for seed in range(config.seeds):
        models = {}
        for name, data in (("told", told), ("shuffled", shuffled)):
            out = config.out / f"{name}-seed{seed}" / "world_model"
            if not checkpoint.is_model(out):
                asks = TrainConfig(data=data, out=out, text=True, acts=False, seed=seed, device=config.device)
                train(asks, sizes(config.steps))
            models[name] = checkpoint.load(out, config.resolved())
        for guidance in config.guidance:
            judge("told what is judged", dreamed(models["told"], first, asked, guidance), seed=seed, guidance=guidance)
        judge("told another goal", dreamed(models["told"], first, other, 0.0), seed=seed, guidance=0.0)
        judge("told nothing", dreamed(models["told"], first, nothing, 0.0), seed=seed, guidance=0.0)
        judge("texts shuffled in training", dreamed(models["shuffled"], first, asked, 0.0), seed=seed, guidance=0.0)
        details = {"episodes": config.episodes, "steps": config.steps, "seeds": seed + 1}
        written = record(config.result.stem, rows, config.result.parent, details)
    return written


if __name__ == "__main__":
    command.main(measure, InstructionConfig)
