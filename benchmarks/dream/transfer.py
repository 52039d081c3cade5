"""What is a dream worth? A policy trained in it against the same real transitions used in every other way.

    python -m procosm.benchmarks.dream.transfer --runs runs/bench
    python -m procosm.benchmarks.dream.transfer --quick

Arms, each with the same seeds, judged on the same MuJoCo episodes:

- ``dream``: `procosm train-policy` in the world model's dream, with the settings of ``make bench``.
- ``shuffled``: the same in a dream whose slots take one another's actions, so that acting teaches nothing.
- ``offline_sac``: model-free on the very transitions the world model had, SAC's gradient steps only.
- ``offline_td3_bc``: the same with TD3+BC (arXiv 2106.06860), which keeps to what was done.
- ``online_ppo``, ``online_sac``: model-free, a fresh learner in MuJoCo, judged at several numbers of real steps. It
  acts on the true state and chooses what it sees, advantages that no other arm has.
- ``cloned``, ``cloned_best``: behaviour cloning on all logged episodes, or on the tenth of highest return. The data
  come from noise, so it can be little better than noise.
- ``untrained``: the dream's policy before its first step.

All but ``online_*`` act on the world model's estimate of the state, while learning and when judged. Every (task, arm,
seed) is a cell on disk: killed at any moment, the same command goes on, and a task's result, transfer_<task>.json,
names the cells that are missing. Seconds are CPU seconds of learning (``time.process_time``): wall clock depends on
what else runs.
"""

import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from procosm.agents.judge.evaluate import JUDGING_SEED
from procosm.agents.judge.stats import t_interval
from procosm.benchmarks.device import OnDevice
from procosm.benchmarks.dream.transfer_arms import ARMS, Desk, Practice
from procosm.benchmarks.dream.transfer_figure import draw
from procosm.benchmarks.record import RESULTS, in_files, record
from procosm.envs.collect.collect import CollectConfig, collect
from procosm.envs.dreams.weights import find_checkpoint
from procosm.envs.truth.names import resolve_name
from procosm.world_model import command
from procosm.world_model.errors import ProcosmError
from procosm.world_model.files import read_json, write_json
from procosm.world_model.settings import Count

EARLY = (0.125, 0.25, 0.5, 1.0)
PRACTICE = {
    "InvertedPendulum": Practice("ppo", 384, 24, 0.99, episodes=30, shares=(*EARLY, 2.0, 5.0)),
    "Reacher": Practice("sac", 64, 100, 0.95, episodes=100, shares=EARLY),
    "HalfCheetah": Practice("ppo", 384, 24, 0.99, episodes=10, shares=EARLY),
    "Swimmer-v5": Practice("ppo", 384, 24, 0.99, episodes=10, shares=EARLY),
}
QUICK = Practice("ppo", 16, 2, 0.99, episodes=5, shares=(0.5, 1.0), gradient_steps=100, clone_steps=100)
QUICK_STEPS = 600


@dataclass(frozen=True)
class TransferConfig(OnDevice):
    """Compare a dream with everything else its data could have been used for."""

    runs: Path = Path("runs/bench")
    """Finished runs, RUNS/<task>/seed<k> with data/ and world_model/ in them. Seed s of every arm uses run seed s;
    where there is none, the runs there are in turn."""
    out: Path = Path("runs/transfer")
    """Policies and cells go to OUT/<task>; delete that folder to begin again."""
    tasks: tuple[str, ...] = tuple(PRACTICE)
    """Tasks; those without a run are left out."""
    seeds: Count = 5
    """Seeds of each arm."""
    only: tuple[str, ...] = ()
    """Learn only cells whose names begin so (Reacher/dream, HalfCheetah/); a task's result has all that exist."""
    quick: bool = False
    """Two minutes: one seed of the pendulum, tiny; the result goes to OUT and counts for nothing."""


class Cell(NamedTuple):
    """One arm of a task with one seed."""

    task: str
    arm: str
    seed: int

    @property
    def name(self) -> str:
        """TASK/ARM-SEED, as ``--only`` selects it and as it is called on disk."""
        return f"{self.task}/{self.arm}-{self.seed}"


Found = dict[Cell, dict[str, Any]]


def plan(config: TransferConfig) -> Iterator[Cell]:
    """All cells: a task's arms in the order of interest, all seeds of one before the next. PPO's only beside a dream
    trained with PPO.
    """
    for task in config.tasks:
        for arm in ARMS:
            if arm != "online_ppo" or PRACTICE[task].algorithm == "ppo":
                yield from (Cell(task, arm, seed) for seed in range(config.seeds))


def run_of(runs: Path, cell: Cell) -> tuple[Path, bool]:
    """The run whose data and world model a cell uses, and whether it is the run of the cell's own seed.

    Raises:
        ProcosmError: the task has no finished world model.
    """
    there = sorted(path.parent for path in (runs / cell.task).glob("seed*/world_model"))
    if not there:
        out = shlex.quote(str(runs / cell.task))
        raise ProcosmError(
            f"{runs / cell.task} holds no seed<k>/world_model: give the folder of other --runs, or make one with "
            f"`python -m procosm.benchmarks.dream.pipeline --env {shlex.quote(cell.task)} --out {out}`"
        )
    own = runs / cell.task / f"seed{cell.seed}"
    return (own, True) if own in there else (there[cell.seed % len(there)], False)


def settle(cell: Cell, config: TransferConfig, practice: Practice) -> None:
    """Learn and judge one cell, unless it is on disk."""
    path = cell_path(config, cell)
    if path.exists():
        return
    run, own = run_of(config.runs, cell)
    points = ARMS[cell.arm](Desk(run, own, config.out / cell.name, cell.seed, practice, config.device))
    origin = read_json(run / "world_model" / "provenance.json").get("commit")
    write_json(path, {"run": run.name, "world_model_commit": origin, "points": [point._asdict() for point in points]})


def practice_of(config: TransferConfig, task: str) -> Practice:
    """How much is learned in a cell of this task."""
    return QUICK if config.quick else PRACTICE[task]


def cell_path(config: TransferConfig, cell: Cell) -> Path:
    """Where a finished cell stands."""
    return config.out / f"{cell.name}.json"


def counted(config: TransferConfig, cell: Cell) -> dict[str, Any]:
    """A finished cell. Judged on more episodes than are asked for now, its first ones count, as in every other cell."""
    content, episodes = read_json(cell_path(config, cell)), practice_of(config, cell.task).episodes
    points = [point | {"returns": point["returns"][:episodes]} for point in content["points"]]
    return content | {"points": points}


def rows_of(found: Found) -> list[dict[str, Any]]:
    """A row for each cell and number of real steps; over the seeds the mean, its paired difference from the dream, and
    CPU seconds, with 95 % t-intervals.
    """
    rows: list[dict[str, Any]] = []
    groups: dict[tuple[str, str, int], dict[int, dict[str, Any]]] = {}
    for cell, content in found.items():
        for i, point in enumerate(content["points"]):
            value = float(torch.tensor(point["returns"], dtype=torch.float64).mean())
            row = {**cell._asdict(), "real_steps": point["real_steps"], "run": content["run"]}
            row |= {"policy": "trained with its run"} if point.get("of_the_run") else {}
            rows.append({"metric": "return", **row, "value": value, "unit": "return", "n": len(point["returns"])})
            groups.setdefault((cell.task, cell.arm, i), {})[cell.seed] = point | {"return": value}
    for (task, arm, _), by_seed in groups.items():
        place = {"task": task, "arm": arm, "real_steps": next(iter(by_seed.values()))["real_steps"]}
        values = {seed: point["return"] for seed, point in by_seed.items()}
        rows.append({"metric": "return mean", **place, "unit": "return", **t_interval(list(values.values()))})
        dream = {seed: point["return"] for seed, point in groups.get((task, "dream", 0), {}).items()}
        pairs = [values[seed] - dream[seed] for seed in sorted(values.keys() & dream.keys())]
        if arm != "dream" and pairs:
            rows.append({"metric": "return minus dream", **place, "unit": "return", **t_interval(pairs)})
        seconds = [p["cpu_seconds"] for p in by_seed.values() if p["cpu_seconds"] is not None]
        if seconds:
            rows.append({"metric": "CPU seconds of learning", **place, "unit": "s", **t_interval(seconds)})
    return rows


def world_model_rows(config: TransferConfig, task: str) -> list[dict[str, Any]]:
    """What stands before ``dream`` and ``shuffled``, by the run's own record; wall clock, perhaps beside other work."""
    rows = []
    for path in sorted((config.runs / task).glob("seed*/stages/*.json")):
        stage = read_json(path)
        if path.stem in ("data", "world_model") and stage["finished"]:
            row = {"metric": f"wall-clock seconds of {path.stem}", "task": task, "run": path.parents[1].name}
            rows.append({**row, "value": stage["seconds"], "unit": "s"})
    return rows


def write(config: TransferConfig, task: str, cells: Sequence[Cell]) -> Path:
    """A task's result from those of its cells that exist, and its figure; ``details.cells`` are the files of the cells,
    returns of all episodes and all, so that what is missing can be added anywhere.
    """
    own = [cell for cell in cells if cell.task == task]
    found = {cell: counted(config, cell) for cell in own if cell_path(config, cell).exists()}
    results, name = config.out if config.quick else RESULTS, f"transfer_{in_files(task)}"
    rows = [row | {"task": resolve_name(task)} for row in rows_of(found) + world_model_rows(config, task)]
    details = {
        "intervals": "95 % Student t over seeds; n is their number, in rows of single seeds the number of episodes. "
        "Seeds that share a run share its data and world model: their interval leaves out what varies with these",
        "first_seed_of_episodes": JUDGING_SEED,
        "practice": vars(practice_of(config, task)),
        "world_model_commits": {x["run"]: x["world_model_commit"] for x in found.values()},
        "missing": [cell.name for cell in own if cell not in found],
        "cells": {cell.name: content for cell, content in found.items()},
    }
    path = record(name, rows, results, details)
    draw(rows, results / "figures" / f"{name}.png")
    return path


def quick_run(config: TransferConfig) -> TransferConfig:
    """A run to compare with: the weights that ship, and a little data of its own."""
    runs = config.out / "quick"
    home = runs / "InvertedPendulum" / "seed0"
    if not (home / "world_model").exists():
        shutil.copytree(find_checkpoint(None, "InvertedPendulum"), home / "world_model")
    collect(CollectConfig("InvertedPendulum", home, steps=QUICK_STEPS, processes=1))
    return replace(config, runs=runs, out=runs / "cells", tasks=("InvertedPendulum",), seeds=1)


def main(config: TransferConfig) -> list[Path]:
    """Learn what is missing, in order of interest; write a task's result after each of its cells.

    Returns:
        the results of the tasks that have a run.
    """
    _check(config)
    if config.quick:
        config = quick_run(config)
    cells = list(plan(config))
    wanted = [cell for cell in cells if cell.name.startswith(config.only or ("",))]
    if config.only and not wanted:
        raise ProcosmError(f"no cell's name begins with {' or '.join(config.only)}: they are like {cells[0].name}")
    able = [cell for cell in wanted if any((config.runs / cell.task).glob("seed*/world_model"))]
    if not able:
        run_of(config.runs, wanted[0])  # says what is missing
    for cell in tqdm([cell for cell in able if not cell_path(config, cell).exists()], desc="cells", unit="cell"):
        tqdm.write(cell.name, file=sys.stderr)
        settle(cell, config, practice_of(config, cell.task))
        write(config, cell.task, cells)
    return [write(config, task, cells) for task in dict.fromkeys(cell.task for cell in able)]


def _check(config: TransferConfig) -> None:
    unknown = [task for task in config.tasks if task not in PRACTICE]
    if unknown or not config.tasks:
        raise ProcosmError(f"--tasks {' '.join(unknown)}: there are settings for {', '.join(PRACTICE)}")


if __name__ == "__main__":
    torch.set_num_threads(1)  # so that CPU seconds are those of one thread
    command.main(main, TransferConfig)
