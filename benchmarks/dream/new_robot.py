"""What is pre-training on other robots worth to a new one, of which there are few steps?

    python -m procosm.benchmarks.dream.new_robot --out runs/bench/new_robot

For each robot one model learns all other tasks at once (``data.mixture``), told which by its name. Then each arm learns
the robot from the same few steps, in the same stages: from scratch; post-trained, all weights or low-rank updates;
and, as what must lose, post-trained from a model of the same mixture whose actions were put in another order. Held-out
episodes that none has learned from judge them: error by horizon under the logged actions, beside copying the last frame
and dreaming under shuffled actions. A small policy practises in each model's dream and is judged in MuJoCo, beside
doing nothing. ``real steps saved`` says how many more real steps from scratch would be as good (``new_robot_worth``);
``memory`` is that of one real training step (``post_training_memory``). ``low`` and ``high`` are 95 % intervals: over
windows or episodes in rows of one seed, Student's over seeds in others. Killed at any moment, the same command goes on.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import numpy as np

from procosm.agents.judge.evaluate import JUDGING_SEED
from procosm.agents.judge.intervals import estimate
from procosm.agents.judge.open_loop import Windows, choose_windows, open_loop
from procosm.agents.judge.rollouts import Player, play_truth
from procosm.agents.policy.train import PolicyConfig, train_policy
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.dream.new_robot_figure import draw
from procosm.benchmarks.dream.new_robot_worth import FULL, LOW_RANK, SCRATCH, worth
from procosm.benchmarks.machine.post_training_memory import bytes_of_a_step
from procosm.benchmarks.record import RESULTS, record
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.world_model import checkpoint, command, registry
from procosm.world_model.data.episodes import Episode, is_whole, load_episodes, load_task, write_dataset
from procosm.world_model.data.mixture import MixConfig, mix
from procosm.world_model.files import read_json, write_json
from procosm.world_model.settings import Count
from procosm.world_model.threads import one_thread
from procosm.world_model.training.post import PostTrainConfig, post_train
from procosm.world_model.training.presets import Preset, preset
from procosm.world_model.training.train import TrainConfig, train

FRAME = 32
METRICS = {"pixel_mse": "1", "state_nrmse": "deviations of the state"}
HORIZONS = (1, 2, 4, 8)
"""Episodes of pendulums that nobody holds are short."""


class Arm(NamedTuple):
    """One way to a model of the new robot.

    Attributes:
        name: as results call it. base: the pre-trained model that it goes on from, none for one from scratch.
        method: what of it learns. budgets: with how many of the numbers of real steps, from the fewest up.
        once: whether it is trained with the first robot and seed alone.
    """

    name: str
    base: Literal["many", "shuffled"] | None
    method: Literal["full", "lora"]
    budgets: int | None = None
    once: bool = False

    @property
    def folder(self) -> str:
        """Its name on disk."""
        return "scratch" if self.base is None else f"{self.base}-{self.method}"


ARMS = (
    Arm(SCRATCH, None, "full"),
    Arm(FULL, "many", "full", 1),
    Arm(LOW_RANK, "many", "lora", 1),
    Arm("control: actions shuffled in pre-training", "shuffled", "full", 1, once=True),
)


@dataclass(frozen=True)
class NewRobotConfig(OnDevice):
    """Which robots, and how much of each."""

    out: Path
    """Folder for data and checkpoints; what is finished there is not made again."""
    result: Path = RESULTS / "new_robot.json"
    """Where the result goes."""
    known: tuple[str, ...] = (
        *("InvertedPendulum-v5", "InvertedDoublePendulum-v5", "Reacher-v5", "Swimmer-v5", "Hopper-v5"),
    )
    """Tasks of the mixture, without the robot at hand."""
    robots: tuple[str, ...] = ("InvertedPendulum-v5", "InvertedDoublePendulum-v5")
    """New ones, in turn."""
    known_steps: Count = 2500
    """Steps of each known task."""
    budgets: tuple[Count, ...] = (500, 1500, 5000)
    """Steps of a new robot, rising, its own held-out tenth included."""
    seeds: Count = 3
    """Seeds of every arm, from 0 up; the data are the same for all."""
    pretraining: Count = 1500
    """Steps of the main stage of pre-training."""
    steps: Count = 500
    """Steps of the main stage of every arm."""
    windows: Count = 256
    """Held-out windows that judge."""
    practice: Count = 20
    """Iterations of a policy in each model's dream, of 128 dreams by 16 steps."""
    episodes: Count = 10
    """MuJoCo episodes that judge a policy."""


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


def pretrained(config: NewRobotConfig, robot: str, base: str) -> Path:
    """A model of the mixture without the robot: ``many`` with its actions, ``shuffled`` with these in another order."""
    others = [task for task in config.known if task != robot]
    folder = config.out / f"without-{robot}"
    mixture, out = folder / "many" / "data", folder / base / "world_model"
    if not checkpoint.is_model(out):
        known = [collected(config.out / task, task, config.known_steps, 0, "reward") for task in others]
        if not is_whole(mixture):
            mix(MixConfig(tuple(known), mixture.parent))
        data = mixture if base == "many" else in_another_order(mixture, folder / base / "data")
        train(TrainConfig(data=data, out=out, text=True, device=config.device), sizes(config.pretraining))
    return out


def made(config: NewRobotConfig, arm: Arm, robot: str, data: Path, seed: int) -> Path:
    """An arm's checkpoint, trained on the same data in the same stages as that of every other."""
    out = data.parent / f"seed{seed}" / arm.folder
    if checkpoint.is_model(out):
        return out
    if arm.base is None:
        return train(TrainConfig(data=data, out=out, seed=seed, device=config.device), sizes(config.steps))
    base = pretrained(config, robot, arm.base)
    asked = PostTrainConfig(base, data, out, method=arm.method, tokenizer="tune", seed=seed, device=config.device)
    return post_train(asked, sizes(config.steps).stages)


def practised(config: NewRobotConfig, world_model: Path, seed: int) -> Path:
    """A small policy that has practised in a model's dream alone."""
    out = world_model.with_name(f"{world_model.name}-policy")
    asked = PolicyConfig(
        world_model, out, dreams=128, iterations=config.practice, width=64, truth_every=0, seed=seed,
        observation="state", device=config.device,
    )  # fmt: skip
    return train_policy(asked) / "policy.zip"


def returns(config: NewRobotConfig, world_model: Path, policy: Path | None) -> dict[str, Any]:
    """What a policy earns in MuJoCo, or doing nothing; on the same episodes."""
    player = Player(world_model, "zero")
    if policy is not None:
        player = Player(world_model, "trained", policy, "ppo", "state", str(config.resolved()))
    played = play_truth(player, range(JUDGING_SEED, JUDGING_SEED + config.episodes), 1)
    found = estimate(np.array([episode.total for episode in played]))
    return {"metric": "return", "value": found.mean, "low": found.low, "high": found.high, "n": found.n}


class Judge(NamedTuple):
    """What all models of a robot are judged by: held-out windows, and the deviations (s,) of its state."""

    windows: Windows
    scale: np.ndarray

    @classmethod
    def of(cls, config: NewRobotConfig, robot: str) -> "Judge":
        """From episodes that no model learns from."""
        judging = load_episodes(collected(config.out / "judge" / robot, robot, 1500, 99))
        held_out: list[Episode] = [episode for episode in judging if episode.kind != "constant"]
        windows = choose_windows(held_out, 3, max(HORIZONS), config.windows, 0)
        return cls(windows, np.concatenate([episode.signals["state"] for episode in held_out]).std(0).clip(1e-6))


def judged(config: NewRobotConfig, world_model: Path, judge: Judge, seed: int) -> list[dict[str, Any]]:
    """Errors at some horizons, of the model's own dream and of its controls, and the return of its policy."""
    path = world_model.with_name(f"{world_model.name}-judged.json")
    if not path.exists():
        model = checkpoint.load(world_model, config.resolved())
        rows = [
            {**row, "unit": METRICS[str(row["metric"])]}
            for row in open_loop(model, judge.windows, judge.scale, 0)
            if row["metric"] in METRICS and row["horizon"] in HORIZONS
        ]
        rows.append({**returns(config, world_model, practised(config, world_model, seed)), "unit": "return"})
        write_json(path, rows)
    return cast(list[dict[str, Any]], read_json(path))


def memory(world_model: Path, robot: str) -> list[dict[str, Any]]:
    """Bytes of weights, gradients and optimizer's state of one step of a robot's network, by method."""
    model: Any = checkpoint.load(world_model, "cpu")
    rows = []
    for arm, rank in ((FULL, None), (LOW_RANK, PostTrainConfig.lora_rank)):
        _, dynamics = registry.build(model.task, model.tokenizer.config, model.dynamics.config)
        for part, value in bytes_of_a_step(dynamics, rank).items():
            rows.append({"task": robot, "arm": arm, "metric": f"memory: {part}", "value": value, "unit": "bytes"})
    return rows


@one_thread()
def measure(config: NewRobotConfig) -> Path:
    """Train all arms, judge them, and write what came of it; after each seed what there is so far."""
    judges = {robot: Judge.of(config, robot) for robot in config.robots}
    rows: list[dict[str, Any]] = []
    written = config.result
    for seed in range(config.seeds):
        for robot, judge in judges.items():
            rows += of_a_robot(config, robot, judge, seed)
        told = {"known": list(config.known), "known_steps": config.known_steps, "steps": config.steps}
        told |= {"pretraining": config.pretraining, "seeds": seed + 1, "practice": config.practice}
        made_of = [*rows, *worth(rows)]
        written = record(config.result.stem, made_of, config.result.parent, told)
        draw(made_of, config.result.parent / "figures" / f"{config.result.stem}.png")
    return written


def of_a_robot(config: NewRobotConfig, robot: str, judge: Judge, seed: int) -> Iterator[dict[str, Any]]:
    """All rows of a robot and seed; with the first seed those that no training changes, too."""
    for number, budget in enumerate(config.budgets):
        data = collected(config.out / f"{robot}-{budget}", robot, budget, 7)
        for arm in ARMS:
            asked = arm.budgets is None or number < arm.budgets
            if not asked or (arm.once and (seed > 0 or robot != config.robots[0])):
                continue
            world_model = made(config, arm, robot, data, seed)
            said = {"task": robot, "real_steps": budget, "seed": seed}
            for row in judged(config, world_model, judge, seed):
                if row.get("method") in (None, "dream", "shuffled actions"):
                    yield {**said, **row, "arm": arm.name}
                elif row["method"] == "copy last frame" and arm.base is None and seed == number == 0:
                    yield {**said, **row, "arm": "copy last frame"}
            if arm.base is None and seed == number == 0:
                yield {"task": robot, "arm": "doing nothing", "unit": "return", **returns(config, world_model, None)}
                yield from memory(world_model, robot)


if __name__ == "__main__":
    command.main(measure, NewRobotConfig)
