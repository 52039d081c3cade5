"""What is pre-training on other robots worth to a new one, of which there are few steps?

    python -m procosm.benchmarks.dream.new_robot --out runs/bench/new_robot

One model learns several tasks at once (``data.mixture``), told which by its name. Then each arm learns the new robot
from the same few steps, in the same stages: from scratch; post-trained, all weights or low-rank updates; and, as what
must lose, post-trained from a model of the same mixture whose actions were put in another order. Held-out episodes that
none has learned from judge them: error by horizon under the logged actions, beside copying the last frame and dreaming
under shuffled actions. Killed at any moment, the same command goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from procosm.agents.judge.open_loop import Windows, choose_windows, open_loop
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.record import RESULTS, record
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.world_model import checkpoint, command
from procosm.world_model.checkpoint import WorldModel
from procosm.world_model.data.episodes import Episode, is_whole, load_episodes, load_task, write_dataset
from procosm.world_model.data.mixture import MixConfig, mix
from procosm.world_model.settings import Count
from procosm.world_model.threads import one_thread
from procosm.world_model.training.post import PostTrainConfig, post_train
from procosm.world_model.training.presets import Preset, preset
from procosm.world_model.training.train import TrainConfig, train

FRAME = 32
METRICS = {"pixel_mse": "1", "state_nrmse": "deviations of the state"}
HORIZONS = (1, 4, 8, 16)


ARMS: tuple[tuple[str, str, Literal["full", "lora"]], ...] = (
    ("post-trained", "many", "full"),
    ("post-trained, low rank", "many", "lora"),
    ("control: actions shuffled in pre-training", "shuffled", "full"),
)
"""What begins from a pre-trained model: its name, which one, and what of it learns."""


@dataclass(frozen=True)
class NewRobotConfig(OnDevice):
    """Which robots, and how much of each."""

    out: Path
    """Folder for data and checkpoints; what is finished there is not made again."""
    result: Path = RESULTS / "new_robot.json"
    """Where the result goes."""
    known: tuple[str, ...] = ("InvertedDoublePendulum-v5", "Reacher-v5", "Swimmer-v5", "Hopper-v5")
    """Tasks of the mixture."""
    robot: str = "InvertedPendulum-v5"
    """The new one."""
    known_steps: Count = 2500
    """Steps of each known task."""
    budgets: tuple[Count, ...] = (500, 2000)
    """Steps of the new robot, its own held-out tenth included."""
    seeds: Count = 3
    """Seeds of every arm, from 0 up; the data are the same for all."""
    pretraining: Count = 900
    """Steps of the main stage of pre-training."""
    steps: Count = 300
    """Steps of the main stage of every arm."""
    windows: Count = 48
    """Held-out windows that judge."""


def sizes(steps: int) -> Preset:
    """The small preset for frames of 32 pixels, a quarter as wide, its stages in proportion to the main one's steps."""
    small = preset("small")
    network = replace(small.dynamics.transformer, width=64, layers=3)
    made = replace(
        small,
        tokenizer=replace(small.tokenizer, width=16),
        dynamics=replace(small.dynamics, transformer=network),
    )
    made = made.with_stage("tokenizer", steps=max(1, steps // 2), batch=24)
    made = made.with_stage("state_head", steps=steps, batch=64).with_stage("manifold", steps=steps, batch=128)
    made = made.with_stage("diffusion", steps=steps, batch=32)
    # One round for every arm: they are compared at equal steps.
    return made.with_stage("unroll", steps=max(1, steps // 8), batch=32, growth_gate=None, extensions=0)


def collected(out: Path, task: str, steps: int, seed: int, signals: str = "all") -> Path:
    """The data of one task, collected once."""
    data = out / "data"
    if is_whole(data):
        return data
    config = CollectConfig(env=task, out=out, steps=steps, frame_size=FRAME, seed=seed, processes=1, signals=signals)  # type: ignore[arg-type]
    return collect(config)


def in_another_order(data: Path, out: Path) -> Path:
    """The same dataset, the actions of each episode in another order: nothing of what they do can be learned."""
    if not is_whole(out):
        generator = np.random.default_rng(0)
        episodes = (
            (replace(e, actions=generator.permutation(e.actions), frames=np.asarray(e.frames)), None)
            for e in load_episodes(data)
        )
        write_dataset(out, load_task(data), episodes, {"shuffled": str(data)}, None)
    return out


def pretrained(config: NewRobotConfig) -> dict[str, Path]:
    """Models of the mixture: with its actions, and with these in another order."""
    known = [collected(config.out / task, task, config.known_steps, 0, "reward") for task in config.known]
    mixture = config.out / "many" / "data"
    if not is_whole(mixture):
        mix(MixConfig(tuple(known), config.out / "many"))
    shuffled = in_another_order(mixture, config.out / "shuffled" / "data")
    made = {}
    for name, data in (("many", mixture), ("shuffled", shuffled)):
        made[name] = config.out / name / "world_model"
        if not checkpoint.is_model(made[name]):
            train(TrainConfig(data=data, out=made[name], text=True, device=config.device), sizes(config.pretraining))
    return made


def arms(
    config: NewRobotConfig, bases: dict[str, Path], data: Path, budget: int, seed: int
) -> Iterator[tuple[str, Path]]:
    """Each arm's checkpoint, trained on the same data in the same stages; the control with the least data alone."""
    stages, folder = sizes(config.steps).stages, data.parent / f"seed{seed}"
    scratch = folder / "scratch"
    if not checkpoint.is_model(scratch):
        train(TrainConfig(data=data, out=scratch, seed=seed, device=config.device), sizes(config.steps))
    yield "from scratch", scratch
    for arm, base, method in ARMS:
        if base == "shuffled" and budget > min(config.budgets):
            continue
        out = folder / f"{base}-{method}"
        if not checkpoint.is_model(out):
            asked = PostTrainConfig(
                bases[base], data, out, method=method, tokenizer="tune", seed=seed, device=config.device
            )
            post_train(asked, stages)
        yield arm, out


def judged(model: WorldModel, windows: Windows, scale: np.ndarray) -> Iterator[dict[str, Any]]:
    """Errors at some horizons: the model's own, and with ``from scratch`` what all are measured against."""
    for row in open_loop(model, windows, scale, 0):
        if row["metric"] in METRICS and row["horizon"] in HORIZONS:
            yield {**row, "unit": METRICS[str(row["metric"])]}


@one_thread()
def measure(config: NewRobotConfig) -> Path:
    """Train all arms, judge them, and write what came of it; after each seed what there is so far."""
    bases = pretrained(config)
    judging = load_episodes(collected(config.out / "judge" / config.robot, config.robot, 1500, 99))
    held_out: list[Episode] = [episode for episode in judging if episode.kind != "constant"]
    windows = choose_windows(held_out, 3, max(HORIZONS), config.windows, 0)
    scale = np.concatenate([episode.signals["state"] for episode in held_out]).std(0).clip(1e-6)
    rows: list[dict[str, Any]] = []
    written = config.result
    for seed in range(config.seeds):
        for budget in config.budgets:
            data = collected(config.out / f"{config.robot}-{budget}", config.robot, budget, 7)
            for arm, folder in arms(config, bases, data, budget, seed):
                said = {"task": config.robot, "real_steps": budget, "seed": seed}
                for row in judged(checkpoint.load(folder, config.resolved()), windows, scale):
                    if row["method"] in ("dream", "shuffled actions"):
                        rows.append({**said, **row, "arm": arm})
                    elif arm == "from scratch" and row["method"] == "copy last frame" and seed == 0:
                        rows.append({**said, **row, "arm": "copy last frame"})
        told = {"known": list(config.known), "known_steps": config.known_steps, "steps": config.steps}
        told |= {"pretraining": config.pretraining, "seeds": seed + 1}
        written = record(config.result.stem, rows, config.result.parent, told)
    return written


if __name__ == "__main__":
    command.main(measure, NewRobotConfig)
